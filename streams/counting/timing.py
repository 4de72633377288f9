"""When each click was made, and in which month: true times, as columns. Pure.

The scalar definition is ``ingest.contract.times.true_time_ms``; a property test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.contract.month import MONTH_FIRST, month_after, month_before, month_of, month_start_ms
from ingest.contract.times import AHEAD_MAX_MS
from streams.clicks.decode import Columns
from streams.state.hash_table import I64

Flags = npt.NDArray[np.bool_]
#: A skew of half the least one may be above it at the next attempt, and below it again at the one after.
_UNSURE: Final = 2


@dataclass(frozen=True, slots=True)
class Times:
    """Of each click, in ms; and which of them say another time at another attempt."""

    #: By the client's clock: the same at every attempt, but where ``unsaid``.
    own_ms: I64
    #: When it was made, which says the month.
    true_ms: I64
    #: What orders a flattr and its undo: the true time, but for old records whose clicks waited.
    version_ms: I64
    #: Another attempt may come to another true time.
    retimed: Flags
    #: The client said no time: each attempt bears that of its receipt.
    unsaid: Flags
    #: Records of before there was ``sent_at``, whose ``clicked_at`` ingest moved: their month is what was counted.
    old: Flags | None = None


def times_of(clicks: Columns, skew_min_ms: int) -> Times:
    """The times of these clicks."""
    clicked, received = clicks.clicked_at_ms, clicks.received_at_ms
    unsaid = np.equal(clicked, received)
    retimed: Flags = np.greater(clicked, received)
    true = np.minimum(clicked, received) if retimed.any() else clicked
    if clicks.sent_at_ms is not None:
        said = clicks.sent_at_ms >= 0
        skew = np.where(said, received - clicks.sent_at_ms, 0)
        true = np.where(np.abs(skew) >= max(skew_min_ms, 1), np.clip(clicked + skew, 0, received), true)
        retimed |= (true != clicked) | (np.abs(skew) >= max(skew_min_ms // _UNSURE, 1))
        unsaid &= ~said
    times = Times(clicked, true, true, retimed, unsaid & ~retimed)
    return times if clicks.client_at_ms is None else _with_old(times, clicks)


def _with_old(times: Times, clicks: Columns) -> Times:
    """The same, with records in it of which ingest moved ``clicked_at`` and kept the client's as ``client_at``."""
    client = clicks.client_at_ms
    if client is None:
        return times
    old = client >= 0
    if clicks.sent_at_ms is not None:
        old &= clicks.sent_at_ms < 0
    return Times(
        np.where(old, client, times.own_ms),
        times.true_ms,
        # A time to come would make a flattr that no undo reaches.
        np.where(old, np.minimum(client, times.true_ms), times.true_ms),
        times.retimed | old,
        times.unsaid & ~old,
        old,
    )


def months_of(times_ms: I64) -> tuple[I64, I64, I64]:
    """The month of each time; and of that month its first ms and the first one after it."""
    if not len(times_ms):
        return times_ms, times_ms, times_ms
    first, last = int(times_ms.min()), int(times_ms.max())
    month = month_of(first)
    start, end = month_start_ms(month), month_start_ms(month_after(month))
    if last < end:
        return np.full_like(times_ms, month), np.full_like(times_ms, start), np.full_like(times_ms, end)
    # Whatever the clocks say, the work is that of the clicks, not that of the months.
    since_1970 = times_ms.astype("<M8[ms]").astype("<M8[M]")
    index = since_1970.astype(np.int64)
    months: I64 = (1970 + index // 12) * 100 + index % 12 + 1
    return months, since_1970.astype("<M8[ms]").astype(np.int64), (since_1970 + 1).astype("<M8[ms]").astype(np.int64)


def within_reach(times_ms: I64, record_at_ms: I64, grace_ms: int) -> I64:
    """Times to take months of: none beyond the month after the record's, none before the month two before it.

    What is older is late in that month as in its own, if the grace lets it be; and a member whose clock says another
    month with every click makes no thousand months to look at, to tally and to write.
    """
    _, starts, ends = months_of(record_at_ms)
    _, before, _ = months_of(np.maximum(starts - 1, 0))
    oldest = np.where(before + grace_ms <= record_at_ms, np.maximum(before - 1, 0), 0)
    return np.clip(times_ms, oldest, ends)


@lru_cache(1024)
def bounds_of(month: int) -> tuple[int, int]:
    """The first ms of a month and the first one after it."""
    return month_start_ms(month), month_start_ms(month_after(month))


@lru_cache(1024)
def near_months(record_at_ms: int) -> tuple[int, ...]:
    """The months whose flattrs a click of a record of that time may be held against, oldest first.

    That of the record and the one before; within ``AHEAD_MAX_MS`` of the end, the next one. They are a function of the
    log, and few, so that no client's clock makes a worker read months that nobody asks for.
    """
    month = month_of(record_at_ms)
    before = (month_before(month),) if month > MONTH_FIRST else ()
    next_month = month_of(record_at_ms + AHEAD_MAX_MS)
    return (*before, month) if next_month == month else (*before, month, next_month)
