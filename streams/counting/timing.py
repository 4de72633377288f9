"""True times and months of clicks, as columns. Pure.

The scalar definition is ``ingest.contract.times.true_time_ms``; a property test shows that the two agree.
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
#: A skew above half the minimum may exceed the minimum at the next attempt, so such a time is not certain.
_UNSURE: Final = 2


@dataclass(frozen=True, slots=True)
class Times:
    """The times of each click in ms, and which of them may differ at another attempt. Arrays of shape (n,)."""

    #: By the client's clock: the same at every attempt, except where ``unsaid``.
    own_ms: I64
    #: When it was made, which decides the month.
    true_ms: I64
    #: What orders a flattr and its undo: the true time, except on old records whose clicks were delayed.
    version_ms: I64
    #: Another attempt may have another true time.
    retimed: Flags
    #: The client stated no time, so each attempt has its time of receipt.
    unsaid: Flags
    #: Records from before ``sent_at`` existed, whose ``clicked_at`` ingest corrected: they keep the month they had.
    old: Flags | None = None


def times_of(clicks: Columns, skew_min_ms: int) -> Times:
    """Compute the times of these clicks."""
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
    """The times when some are old records, with the client's own time in ``client_at``."""
    client = clicks.client_at_ms
    if client is None:
        return times
    old = client >= 0
    if clicks.sent_at_ms is not None:
        old &= clicks.sent_at_ms < 0
    return Times(
        np.where(old, client, times.own_ms),
        times.true_ms,
        # With a time in the future, no undo could ever be newer.
        np.where(old, np.minimum(client, times.true_ms), times.true_ms),
        times.retimed | old,
        times.unsaid & ~old,
        old,
    )


def months_of(times_ms: I64) -> tuple[I64, I64, I64]:
    """The month of each time, and that month's start and end in ms (end exclusive)."""
    if not len(times_ms):
        return times_ms, times_ms, times_ms
    first, last = int(times_ms.min()), int(times_ms.max())
    month = month_of(first)
    start, end = month_start_ms(month), month_start_ms(month_after(month))
    if last < end:
        return np.full_like(times_ms, month), np.full_like(times_ms, start), np.full_like(times_ms, end)
    # Vectorised, so that the cost depends on the number of clicks and not of months, whatever the clocks say.
    since_1970 = times_ms.astype("<M8[ms]").astype("<M8[M]")
    index = since_1970.astype(np.int64)
    months: I64 = (1970 + index // 12) * 100 + index % 12 + 1
    return months, since_1970.astype("<M8[ms]").astype(np.int64), (since_1970 + 1).astype("<M8[ms]").astype(np.int64)


def within_reach(times_ms: I64, record_at_ms: I64, grace_ms: int) -> I64:
    """Clamp times to at most the month after the record's and at least two months before it.

    Anything older is late either way, if the grace has passed. This bounds the months to load, tally and write, even if
    a client's clock shows another month with every click.
    """
    _, starts, ends = months_of(record_at_ms)
    _, before, _ = months_of(np.maximum(starts - 1, 0))
    oldest = np.where(before + grace_ms <= record_at_ms, np.maximum(before - 1, 0), 0)
    return np.clip(times_ms, oldest, ends)


@lru_cache(1024)
def bounds_of(month: int) -> tuple[int, int]:
    """A month's start and end in ms (end exclusive)."""
    return month_start_ms(month), month_start_ms(month_after(month))


@lru_cache(1024)
def near_months(record_at_ms: int) -> tuple[int, ...]:
    """The months whose flattrs may affect a click in a record with this timestamp, oldest first.

    They are the record's month, the one before, and within ``AHEAD_MAX_MS`` of the end the next one. They depend on
    the log alone, and are few, so that no client's clock can make a worker load arbitrary months.
    """
    month = month_of(record_at_ms)
    before = (month_before(month),) if month > MONTH_FIRST else ()
    next_month = month_of(record_at_ms + AHEAD_MAX_MS)
    return (*before, month) if next_month == month else (*before, month, next_month)
