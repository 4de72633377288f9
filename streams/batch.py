"""Records in, rows out: the pure heart of the stream.

``count_records`` takes a partition's state and the records that follow it, moves the state
behind them and returns nothing but rows; it opens no socket and reads no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from ingest.click import Reason, month_after, month_of, month_start_ms, position
from streams.counting import count
from streams.decode import Columns, Refused, halves, read
from streams.dedupe import COUNTED, DUPLICATE, UNDONE, judge
from streams.erased import NOBODY, Erased
from streams.records import LogRecord
from streams.rows import Rows
from streams.state import PAIR_STIR, MonthState, PartitionState
from streams.table import I64, U64
from streams.tables import Tables

_STIR: Final = np.uint64(PAIR_STIR)
_TIME_MAX_MS = 1 << 43
_DAY_MS = 24 * 60 * 60 * 1000

#: Reads a month of a partition from the warehouse; an empty one when it has none.
MonthLoader = Callable[[int], MonthState]


@dataclass(frozen=True, slots=True)
class Rules:
    """What does not change while a worker runs, but for the list of erased members."""

    partitions: int
    epoch: int
    grace_ms: int
    topic: str
    erased: Erased = NOBODY


def count_records(
    state: PartitionState, records: Sequence[LogRecord], rules: Rules, load: MonthLoader, rows: Rows
) -> None:
    """Count the records into the state and add to ``rows`` what the warehouse has to be told.

    Records at or below the state's position are skipped. Raises what ``load`` raises; the
    state is then half-way and must be dropped.
    """
    fresh = [record for record in records if position(rules.epoch, record.offset, 0xFFFF) > state.position]
    if not fresh:
        return
    if not all(0 <= record.timestamp_ms <= _TIME_MAX_MS for record in fresh):
        fresh = [record._replace(timestamp_ms=min(max(record.timestamp_ms, 0), _TIME_MAX_MS)) for record in fresh]
    laid = read(fresh, rules.epoch)
    malformed = len(laid.refused)
    key = rules.erased.key
    hashed = _Hashed(*laid.members.hashes(key), *laid.creators.hashes(key))
    partition = laid.members.partitions(rules.partitions)
    months, keep = _rule(state, laid, hashed, partition, rules, rows)
    touched = np.unique(months[keep]).tolist()
    for month in touched:
        if month not in state.months:
            state.months[month] = load(month)
        which = np.flatnonzero(keep & (months == month))
        _count_month(state, month, laid, hashed, which, rows)
    _refuse(state, laid.refused, rules.erased, rows)
    state.position = position(rules.epoch, fresh[-1].offset, 0xFFFF)
    state.record_at_ms = max([state.record_at_ms, *(record.timestamp_ms for record in fresh)])
    state.keep_months(touched)
    rows.clicks += len(laid) + malformed
    rows.malformed += malformed


@dataclass(frozen=True, slots=True)
class _Hashed:
    """Hash halves of each click's member and creator."""

    member_high: U64
    member_low: U64
    creator_high: U64
    creator_low: U64


def _rule(
    state: PartitionState, laid: Columns, hashed: _Hashed, partition: I64, rules: Rules, rows: Rows
) -> tuple[I64, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Refuse wrong partitions, own things and times to come; set late clicks aside. The months, and which to count."""
    months, ends = _months(laid.clicked_at_ms)
    late_from = ends + rules.grace_ms
    own = (hashed.member_high == hashed.creator_high) & (hashed.member_low == hashed.creator_low)
    _pseudonymise(laid, hashed, months, late_from, rules.erased)
    _refuse_clicks(laid, np.flatnonzero(own), Reason.OWN_THING, lambda _: "the member is the creator")
    strange = ~own & (partition != state.number)
    _refuse_clicks(
        laid, np.flatnonzero(strange), Reason.PARTITION_WRONG,
        lambda index: f"the member's clicks belong to partition {partition[index]}, not {state.number}",
    )  # fmt: skip
    late = ~own & ~strange & (laid.record_at_ms >= late_from)
    indices = np.flatnonzero(late).tolist()
    for index, click in zip(indices, laid.lines(indices), strict=True):
        month = int(months[index])
        rows.add(
            "late", month, month=[month], partition=[state.number], position=[int(laid.positions[index])],
            click=[msgspec.json.encode(click)],
        )  # fmt: skip
        state.tally(month, "late", 1)
    return months, ~(own | strange | late)


def _pseudonymise(laid: Columns, hashed: _Hashed, months: I64, late_from: I64, erased: Erased) -> None:
    """Rename clicks of erased members; the state's hashes stay. A closed month keeps the name it was closed with."""
    listed = [
        one
        for one in erased.among(laid.members, hashed.member_high, hashed.member_low)
        if months[one.place] >= one.open_from or laid.record_at_ms[one.place] >= late_from[one.place]
    ]
    if listed:
        laid.members = laid.members.renamed({one.place: one.pseudonym for one in listed})
    for one in listed:
        hashed.member_high[one.place], hashed.member_low[one.place] = one.hash


def _months(times_ms: I64) -> tuple[I64, I64]:
    """The month of each time, and the end of that month in ms."""
    months, ends = np.empty_like(times_ms), np.empty_like(times_ms)
    left = np.ones(len(times_ms), np.bool_)
    while left.any():
        month = month_of(int(times_ms[np.argmax(left)]))
        start, end = month_start_ms(month), month_start_ms(month_after(month))
        of_month = left & (times_ms >= start) & (times_ms < end)
        months[of_month], ends[of_month] = month, end
        left &= ~of_month
    return months, ends


def _count_month(state: PartitionState, month: int, laid: Columns, hashed: _Hashed, which: I64, rows: Rows) -> None:
    of_month = state.months[month]
    thing_high, thing_low = (half[which] for half in halves(laid.thing_ids))
    member_high, member_low = hashed.member_high[which], hashed.member_low[which]
    creator_high, creator_low = hashed.creator_high[which], hashed.creator_low[which]
    pair_high, pair_low = member_high ^ creator_high * _STIR, member_low ^ creator_low * _STIR
    high, low = pair_high ^ thing_high, pair_low ^ thing_low
    verdicts = judge(of_month.flattrs, high, low, laid.versions[which])
    labels = verdicts.labels
    if of_month.first_positions:
        _relabel(of_month, labels, high, low, laid.positions[which])
    for label, name in ((COUNTED, "counted"), (DUPLICATE, "duplicate"), (UNDONE, "undo")):
        state.tally(month, name, int(np.count_nonzero(labels == label)))
    tables = Tables(month, state.number, laid, rows)
    tables.add_labels(which, labels)
    tables.add_flattrs(which, verdicts.rows)
    # One row per creator, thing and pair that changed, as of the last click that changed it.
    known_things = of_month.things.size
    by_creator, creator_counts = count(of_month.creators, creator_high, creator_low, verdicts.deltas)
    by_thing, thing_counts = count(of_month.things, thing_high, thing_low, verdicts.deltas)
    by_pair, pair_counts = count(of_month.pairs, pair_high, pair_low, verdicts.deltas)
    tables.add_counts("counts_by_creator", which[by_creator], creator_counts)
    tables.add_counts("counts_by_thing", which[by_thing], thing_counts)
    tables.add_counts("counts_by_member", which[by_pair], pair_counts)
    if of_month.things.size != known_things:
        tables.add_things(which[by_thing])


def _relabel(of_month: MonthState, labels: np.ndarray, high: U64, low: U64, positions: U64) -> None:
    """A replayed click that the warehouse already counts is that counted click, not its own duplicate."""
    for index in np.flatnonzero(labels == DUPLICATE).tolist():
        key = (int(high[index]), int(low[index]))
        if of_month.first_positions.get(key) == int(positions[index]):
            labels[index] = COUNTED
            del of_month.first_positions[key]


def _refuse_clicks(laid: Columns, indices: I64, reason: Reason, detail: Callable[[int], str]) -> None:
    for index, click in zip(indices.tolist(), laid.lines(indices.tolist()), strict=True):
        at, record_at = int(laid.positions[index]), int(laid.record_at_ms[index])
        laid.refused.append(Refused(at, record_at, reason, detail(index), msgspec.json.encode(click)))


def _refuse(state: PartitionState, refused: list[Refused], erased: Erased, rows: Rows) -> None:
    for one in refused:
        month = month_of(one.record_at_ms)
        rows.add(
            "rejected",
            month,
            month=[month],
            topic=["clicks"],
            partition=[state.number],
            position=[one.position],
            rejected_at=[one.record_at_ms],
            reason=[str(one.reason)],
            detail=[one.detail],
            raw=[erased.scrubbed(one.raw)],
            member_id=[""],
            site_id=[""],
        )
        state.tally(month, "rejected", 1)


def add_progress(state: PartitionState, written_at_ms: int, rows: Rows) -> None:
    """The row that claims everything up to the state's position. It is written last."""
    months = sorted(state.tallies)
    tallies = {
        f"tallies.{name}": [[state.tallies[month][name] for month in months]]
        for name in ("accepted", "counted", "duplicate", "undo", "rejected", "late")
    }
    rows.add(
        "progress",
        0,
        partition=[state.number],
        position=[state.position],
        record_at=[state.record_at_ms],
        written_at=[written_at_ms],
        **{"tallies.month": [months], **tallies},
    )
