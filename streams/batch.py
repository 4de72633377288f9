"""Records in, rows out: the pure heart of the stream.

``count_records`` takes a partition's state and the records that follow it, moves the state
behind them and returns nothing but rows; it opens no socket and reads no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec
import numpy as np

from ingest.click import Reason, month_after, month_of, month_start_ms, position
from streams.counting import count
from streams.decode import Columns, Line, Refused, read
from streams.dedupe import CLICK_ROW, COUNTED, DUPLICATE, NO_ROW, UNDONE, judge
from streams.erased import NOBODY, Erased
from streams.names import name_hashes, partitions_of
from streams.records import LogRecord
from streams.rows import Rows
from streams.state import NO_POSITION, PAIR_STIR, MonthState, PartitionState
from streams.table import I64, U64

_STIR: Final = np.uint64(PAIR_STIR)
_NO_CLICK = bytes(16)
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
    members = [click.member_id for click in laid.clicks]
    member_high, member_low = name_hashes(members)
    creator_high, creator_low = name_hashes([click.creator_id for click in laid.clicks])
    partition = partitions_of(members, rules.partitions)
    hashed = _Hashed(member_high, member_low, creator_high, creator_low)
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
    rows.clicks += len(laid.clicks) + malformed
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
    months, ends = _months(np.fromiter((click.clicked_at for click in laid.clicks), np.int64, len(laid.clicks)))
    late_from = ends + rules.grace_ms
    _pseudonymise(laid, hashed, months, late_from, rules.erased)
    keep = np.ones(len(laid.clicks), np.bool_)
    own = (hashed.member_high == hashed.creator_high) & (hashed.member_low == hashed.creator_low)
    for index in np.flatnonzero(own).tolist():
        keep[index] = False
        _refuse_click(laid, index, Reason.OWN_THING, "the member is the creator")
    for index in np.flatnonzero(keep & (partition != state.number)).tolist():
        keep[index] = False
        detail = f"the member's clicks belong to partition {partition[index]}, not {state.number}"
        _refuse_click(laid, index, Reason.PARTITION_WRONG, detail)
    late = np.flatnonzero(keep & (laid.record_at_ms >= late_from))
    keep[late] = False
    for index in late.tolist():
        month = int(months[index])
        click = laid.clicks[index]
        rows.add(
            "late", month, month=[month], partition=[state.number], position=[int(laid.positions[index])],
            click=[msgspec.json.encode(click)],
        )  # fmt: skip
        state.tally(month, "late", 1)
    return months, keep


def _pseudonymise(laid: Columns, hashed: _Hashed, months: I64, late_from: I64, erased: Erased) -> None:
    """Rename clicks of erased members; their hashes stay. A closed month keeps the key that it was closed with."""
    for index, pseudonym, open_from in erased.among(hashed.member_high, hashed.member_low):
        if months[index] >= open_from or laid.record_at_ms[index] >= late_from[index]:
            laid.clicks[index] = msgspec.structs.replace(laid.clicks[index], member_id=pseudonym)


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
    thing_high, thing_low = (half[which] for half in laid.things)
    member_high, member_low = hashed.member_high[which], hashed.member_low[which]
    creator_high, creator_low = hashed.creator_high[which], hashed.creator_low[which]
    pair_high, pair_low = member_high ^ creator_high * _STIR, member_low ^ creator_low * _STIR
    high, low = pair_high ^ thing_high, pair_low ^ thing_low
    positions = laid.positions[which]
    clicks = [laid.clicks[index] for index in which.tolist()]
    verdicts = judge(of_month.flattrs, high, low, laid.versions[which])
    labels = verdicts.labels
    if of_month.first_positions:
        _relabel(of_month, labels, high, low, positions)
    for label, name in ((COUNTED, "counted"), (DUPLICATE, "duplicate"), (UNDONE, "undo")):
        state.tally(month, name, int(np.count_nonzero(labels == label)))
    picked = _Picked(month, state.number, clicks, positions, laid, which)
    _label_rows(picked, labels, rows)
    _flattr_rows(picked, verdicts.rows, rows)
    # One row per creator, thing and pair that changed, as of the last click that changed it.
    known_things = of_month.things.size
    by_creator = count(of_month.creators, creator_high, creator_low, verdicts.deltas)
    by_thing = count(of_month.things, thing_high, thing_low, verdicts.deltas)
    by_pair = count(of_month.pairs, pair_high, pair_low, verdicts.deltas)
    _count_rows(picked, by_creator, by_thing, by_pair, rows)
    if of_month.things.size != known_things:
        _thing_rows(picked, by_thing[0], rows)


@dataclass(frozen=True, slots=True)
class _Picked:
    """The clicks of one month, with where they stand in the columns of all."""

    month: int
    partition: int
    clicks: list[Line]
    positions: U64
    laid: Columns
    which: I64

    def thing_ids(self, indices: I64) -> list[bytes]:
        return _sixteens(self.laid.thing_ids, self.which[indices])

    def click_ids(self, indices: I64) -> list[bytes]:
        return _sixteens(self.laid.click_ids, self.which[indices])


def _sixteens(data: bytes, indices: I64) -> list[bytes]:
    return cast("list[bytes]", np.frombuffer(data, "V16")[indices].tolist())


def _relabel(of_month: MonthState, labels: np.ndarray, high: U64, low: U64, positions: U64) -> None:
    """A replayed click that the warehouse already counts is that counted click, not its own duplicate."""
    for index in np.flatnonzero(labels == DUPLICATE).tolist():
        key = (int(high[index]), int(low[index]))
        if of_month.first_positions.get(key) == int(positions[index]):
            labels[index] = COUNTED
            del of_month.first_positions[key]


def _label_rows(picked: _Picked, labels: np.ndarray, rows: Rows) -> None:
    for label, table in ((DUPLICATE, "duplicates"), (UNDONE, "undos")):
        indices = np.flatnonzero(labels == label)
        if len(indices):
            rows.add(
                table,
                picked.month,
                month=[picked.month] * len(indices),
                partition=[picked.partition] * len(indices),
                position=picked.positions[indices].tolist(),
                click_id=picked.click_ids(indices),
                member_id=[picked.clicks[index].member_id for index in indices.tolist()],
                thing_id=picked.thing_ids(indices),
            )


def _flattr_rows(picked: _Picked, kinds: np.ndarray, rows: Rows) -> None:
    indices = np.flatnonzero(kinds != NO_ROW)
    if not len(indices):
        return
    clicks = [picked.clicks[index] for index in indices.tolist()]
    positions = picked.positions[indices].tolist()
    first, click_ids = positions, picked.click_ids(indices)
    sites = [click.site_id for click in clicks]
    times = [click.clicked_at for click in clicks]
    for at in np.flatnonzero(kinds[indices] != CLICK_ROW).tolist():
        if first is positions:
            first = list(positions)
        first[at], click_ids[at], sites[at], times[at] = NO_POSITION, _NO_CLICK, "", 0
    rows.add(
        "flattrs",
        picked.month,
        month=[picked.month] * len(indices),
        member_id=[click.member_id for click in clicks],
        creator_id=[click.creator_id for click in clicks],
        thing_id=picked.thing_ids(indices),
        first_position=first,
        position=positions,
        version=picked.laid.versions[picked.which[indices]].tolist(),
        click_id=click_ids,
        site_id=sites,
        clicked_at=times,
    )


Touched = tuple[I64, U64]


def _count_rows(picked: _Picked, by_creator: Touched, by_thing: Touched, by_pair: Touched, rows: Rows) -> None:
    for table, (indices, counts) in (
        ("counts_by_creator", by_creator),
        ("counts_by_thing", by_thing),
        ("counts_by_member", by_pair),
    ):
        if not len(indices):
            continue
        clicks = [picked.clicks[index] for index in indices.tolist()]
        columns_of: dict[str, list[object]] = {
            "month": [picked.month] * len(indices),
            "creator_id": [click.creator_id for click in clicks],
            "flattrs": counts.tolist(),
            "position": picked.positions[indices].tolist(),
        }
        if table == "counts_by_thing":
            columns_of["thing_id"] = list(picked.thing_ids(indices))
        if table == "counts_by_member":
            columns_of["member_id"] = [click.member_id for click in clicks]
        else:
            columns_of["partition"] = [picked.partition] * len(indices)
        rows.add(table, picked.month, **columns_of)


def _thing_rows(picked: _Picked, indices: I64, rows: Rows) -> None:
    """Addresses of the things touched, when some are new to this month: stating one again changes nothing."""
    clicks = [picked.clicks[index] for index in indices.tolist()]
    rows.add(
        "things",
        0,
        thing_id=picked.thing_ids(indices),
        creator_id=[click.creator_id for click in clicks],
        thing=[click.thing for click in clicks],
    )


def _refuse_click(laid: Columns, index: int, reason: Reason, detail: str) -> None:
    at, record_at = int(laid.positions[index]), int(laid.record_at_ms[index])
    laid.refused.append(Refused(at, record_at, reason, detail, msgspec.json.encode(laid.clicks[index])))


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
