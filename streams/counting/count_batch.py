"""Records in, rows out: the pure core of the stream.

``count_records`` takes a partition's state and the records that follow it, advances the state past them and adds the
resulting rows; it opens no socket and reads no clock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from ingest.contract.month import month_after, month_before, month_of, parse_month
from ingest.contract.position import position
from ingest.contract.rejection import Reason
from ingest.contract.times import AHEAD_MAX_MS, SKEW_MIN_MS, TIME_END_MS
from streams.clicks.decode import Columns, RefusedLine, halves, read
from streams.clicks.fields import ORDERS, TAKES_BACK
from streams.clicks.pseudonyms import NOBODY, Listed, Pseudonyms
from streams.clicks.string_columns import StringColumn
from streams.counting.active_counts import count
from streams.counting.decide import Batch, Decided, Keys, decide
from streams.counting.dedupe import COUNTED, DUPLICATE, UNDONE, judge
from streams.counting.result_rows import ResultRows
from streams.counting.timing import Flags
from streams.sink.flush_rows import Rows
from streams.source.chunk import LogRecord, Records, joined
from streams.state.hash_table import I64, U64
from streams.state.partition import PAIR_STIR, MonthState, PartitionState
from streams.state.word import UNDO_BIT

if TYPE_CHECKING:
    from streams.settings import StreamsSettings

_STIR: Final = np.uint64(PAIR_STIR)
#: In place of a label: an undo that belongs to the next month and reaches back into this one; it is labelled there.
_REACHING: Final = 3

#: Reads a month of a partition from the warehouse; an empty one if there is none.
MonthLoader = Callable[[int], MonthState]


@dataclass(frozen=True, slots=True)
class CountingRules:
    """What stays the same while a worker runs, except for the list of erased members."""

    partitions: int
    epoch: int
    grace_ms: int
    topic: str
    erased: Pseudonyms = NOBODY
    skew_min_ms: int = SKEW_MIN_MS
    #: How many bytes of each refused click or record are stored; None: all.
    raw_max_bytes: int | None = None


def rules_from(settings: StreamsSettings, partitions: int, erased: Pseudonyms = NOBODY) -> CountingRules:
    """The rules that workers and replays share."""
    return CountingRules(
        partitions,
        settings.log_epoch,
        int(settings.grace_s * 1000),
        settings.topic_clicks,
        erased,
        int(settings.skew_min_s * 1000),
    )


def count_records(
    state: PartitionState, records: Sequence[LogRecord], rules: CountingRules, load: MonthLoader, rows: Rows
) -> None:
    """Count the records into the state, and add to ``rows`` what has to be written to the warehouse.

    Records at or below the state's position are skipped. Raises what ``load`` raises; the state is then inconsistent
    and must be dropped.
    """
    first_uncounted = state.position + 1 - position(rules.epoch, 0, 0) >> 16
    fresh = _with_times(joined([records]).since(first_uncounted))
    if not len(fresh):
        return
    laid = read(fresh, rules.epoch)
    malformed = len(laid.refused)
    key = rules.erased.key
    hashed = _Hashed(*laid.members.hashes(key), *laid.creators.hashes(key))
    partition = laid.members.partitions(rules.partitions)
    used: set[int] = set()
    if len(laid):
        _rule_and_count(state, laid, hashed, partition, rules, functools.partial(_month, state, load, used), rows)
    _refuse(state, laid.refused, rules, rows)
    state.pass_to(position(rules.epoch, int(fresh.offsets[-1]), 0xFFFF))
    state.record_at_ms = max(state.record_at_ms, int(fresh.stamps_ms.max()))
    state.keep_months(used)
    rows.clicks += len(laid) + malformed
    rows.malformed += malformed


def _with_times(records: Records) -> Records:
    """The records with stamps that columns can hold: whoever writes to the log may stamp anything."""
    return replace(records, stamps_ms=np.clip(records.stamps_ms, 0, TIME_END_MS - 1))


def _month(state: PartitionState, load: MonthLoader, used: set[int], month: int) -> MonthState:
    used.add(month)
    if month not in state.months:
        state.months[month] = load(month)
    return state.months[month]


@dataclass(frozen=True, slots=True)
class _Hashed:
    """The hashes of each click's member and creator, as UInt64 columns."""

    member_high: U64
    member_low: U64
    creator_high: U64
    creator_low: U64

    def pairs(self) -> tuple[U64, U64]:
        """The hash of each (member, creator)."""
        return self.member_high ^ self.creator_high * _STIR, self.member_low ^ self.creator_low * _STIR


def _rule_and_count(
    state: PartitionState,
    laid: Columns,
    hashed: _Hashed,
    partition: I64,
    rules: CountingRules,
    month_of_state: MonthLoader,
    rows: Rows,
) -> None:
    """Refuse invalid clicks, decide the months of the others, set late ones aside and count the rest."""
    good = _refuse_what_is_wrong(state, laid, hashed, partition)
    listed = _known_in_state(laid, hashed, rules.erased)
    keys = _keys(laid, hashed)
    ending = laid.actions == ORDERS | TAKES_BACK
    decided = decide(
        Batch(laid, good & ~ending, keys, state.number, rules.grace_ms, rules.skew_min_ms, month_of_state, rows)
    )
    laid.times_ms = decided.times_ms
    laid.versions = decided.times_ms.astype(np.uint64) << np.uint64(UNDO_BIT + 1) | laid.marks
    late_from = decided.ends + rules.grace_ms
    as_sent = laid.members
    _pseudonymise(laid, listed, decided.months, late_from)
    _add_orders(laid, np.flatnonzero(good & (laid.actions & ORDERS != 0)), rows)
    late = good & (laid.record_at_ms >= late_from)
    _set_aside(state, laid, decided, np.flatnonzero(late), rows)
    _label_endings(state, laid, decided, good & ~late & ending, rows)
    keep = good & ~late & ~ending
    touched = np.unique(decided.months[keep]).tolist()
    reaching = keep & decided.reaching
    for month in sorted({*touched, *map(month_before, np.unique(decided.months[reaching]).tolist())}):
        of_month = keep & (decided.months == month)
        back = reaching & (decided.months == month_after(month))
        which = np.flatnonzero(of_month | back)
        clicks = _with_names_of(month, laid, as_sent, np.flatnonzero(back), rules.erased)
        _count_month(state, month_of_state(month), month, clicks, hashed, keys, which, back[which], rows)


def _refuse_what_is_wrong(state: PartitionState, laid: Columns, hashed: _Hashed, partition: I64) -> Flags:
    """Refuse clicks on own things, in a wrong partition, or received after their record. Returns the others."""
    own = (hashed.member_high == hashed.creator_high) & (hashed.member_low == hashed.creator_low)
    _refuse_clicks(laid, np.flatnonzero(own), Reason.OWN_THING, lambda _: "the member is the thing's creator")
    strange = ~own & (partition != state.number)
    _refuse_clicks(
        laid, np.flatnonzero(strange), Reason.PARTITION_WRONG,
        lambda index: f"the member's clicks belong in partition {partition[index]}, not {state.number}",
    )  # fmt: skip
    too_new = ~own & ~strange & (laid.received_at_ms > laid.record_at_ms + AHEAD_MAX_MS)
    _refuse_clicks(
        laid, np.flatnonzero(too_new), Reason.TIME_AHEAD,
        lambda index: f"received at {laid.received_at_ms[index]}, after its record's stamp {laid.record_at_ms[index]}",
    )  # fmt: skip
    good: Flags = ~(own | strange | too_new)
    return good


def _keys(laid: Columns, hashed: _Hashed) -> Keys:
    thing_high, thing_low = halves(laid.thing_ids)
    click_high, click_low = halves(laid.click_ids)
    pair_high, pair_low = hashed.pairs()
    high, low = pair_high ^ thing_high, pair_low ^ thing_low
    undos = laid.marks >> np.uint64(UNDO_BIT)
    return Keys(click_high ^ high ^ undos * _STIR, click_low ^ low, high, low)


def _set_aside(state: PartitionState, laid: Columns, decided: Decided, late: I64, rows: Rows) -> None:
    indices = late.tolist()
    for index, click in zip(indices, laid.lines(indices), strict=True):
        month = int(decided.months[index])
        rows.add(
            "late", month, month=[month], partition=[state.number], position=[int(laid.positions[index])],
            click=[msgspec.json.encode(click)],
        )  # fmt: skip
        state.tally(month, "late", 1)


def _add_orders(laid: Columns, which: I64, rows: Rows) -> None:
    """Add subscriptions that clicks begin or end. They have no deadline: a late click's counts as well."""
    if not len(which):
        return
    indices = which.tolist()
    until = [0 if click.until is None else parse_month(click.until) for click in laid.lines(indices)]
    rows.add(
        "subscription_orders",
        0,
        member_id=laid.members.packed(which),
        creator_id=laid.creators.packed(which),
        thing_id=laid.thing_ids[which],
        click_id=laid.click_ids[which],
        ends=laid.actions[which] & TAKES_BACK,
        version=laid.versions[which],
        position=laid.positions[which],
        until=np.array(until, np.uint32),
        site_id=laid.sites.packed(which),
    )
    rows.add(
        "things", 0, thing_id=laid.thing_ids[which], creator_id=laid.creators.packed(which),
        thing=laid.things.packed(which),
    )  # fmt: skip


def _label_endings(state: PartitionState, laid: Columns, decided: Decided, ending: Flags, rows: Rows) -> None:
    """Label clicks that end a subscription: they take something back, and change no flattr."""
    for month in np.unique(decided.months[ending]).tolist():
        which = np.flatnonzero(ending & (decided.months == month))
        ResultRows(month, state.number, laid, rows).add_labels(which, np.full(len(which), UNDONE, np.uint8))
        state.tally(month, "undo", len(which))


def _known_in_state(laid: Columns, hashed: _Hashed, erased: Pseudonyms) -> list[Listed]:
    """The clicks of erased members, whose hashes are replaced by those that the state uses."""
    listed = erased.among(laid.members, hashed.member_high, hashed.member_low)
    for click in listed:
        hashed.member_high[click.place], hashed.member_low[click.place] = click.hash
    return listed


def _pseudonymise(laid: Columns, listed: list[Listed], months: I64, late_from: I64) -> None:
    """Rename clicks of erased members; those of a closed month keep the name it was closed with."""
    renamed = {
        click.place: click.pseudonym
        for click in listed
        if months[click.place] >= click.open_from or laid.record_at_ms[click.place] >= late_from[click.place]
    }
    if renamed:
        laid.members = laid.members.renamed(renamed)


def _with_names_of(month: int, laid: Columns, as_sent: StringColumn, back: I64, erased: Pseudonyms) -> Columns:
    """The clicks with the names they have in this month, as some of the next month reach back into it."""
    if not len(back) or as_sent is laid.members:
        return laid
    named = copy(laid)
    named.members = laid.members.renamed({index: erased.name(as_sent[index], month) for index in back.tolist()})
    return named


def _count_month(
    state: PartitionState,
    of_month: MonthState,
    month: int,
    laid: Columns,
    hashed: _Hashed,
    keys: Keys,
    which: I64,
    back: Flags,
    rows: Rows,
) -> None:
    """Count clicks into a month; those that reach ``back`` into it get their label in their own month."""
    thing_high, thing_low = (half[which] for half in halves(laid.thing_ids))
    creator_high, creator_low = hashed.creator_high[which], hashed.creator_low[which]
    pair_high, pair_low = (half[which] for half in hashed.pairs())
    high, low = keys.flattr_high[which], keys.flattr_low[which]
    verdicts = judge(of_month.flattrs, high, low, laid.versions[which])
    labels = verdicts.labels
    labels[back] = _REACHING
    if of_month.first_positions:
        _relabel(of_month, labels, high, low, laid.positions[which])
    for label, name in ((COUNTED, "counted"), (DUPLICATE, "duplicate"), (UNDONE, "undo")):
        state.tally(month, name, int(np.count_nonzero(labels == label)))
    tables = ResultRows(month, state.number, laid, rows)
    tables.add_labels(which, labels)
    tables.add_flattrs(which, verdicts.rows)
    # One row per creator, thing and pair that changed, at the position of the last click that changed it.
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
    """Label a replayed click that the warehouse has already counted as counted, not as its own duplicate."""
    for index in np.flatnonzero(labels == DUPLICATE).tolist():
        key = (int(high[index]), int(low[index]))
        if of_month.first_positions.get(key) == int(positions[index]):
            labels[index] = COUNTED
            del of_month.first_positions[key]


def _refuse_clicks(laid: Columns, indices: I64, reason: Reason, detail: Callable[[int], str]) -> None:
    for index, click in zip(indices.tolist(), laid.lines(indices.tolist()), strict=True):
        at, record_at = int(laid.positions[index]), int(laid.record_at_ms[index])
        laid.refused.append(RefusedLine(at, record_at, reason, detail(index), msgspec.json.encode(click)))


def _refuse(state: PartitionState, refused: list[RefusedLine], rules: CountingRules, rows: Rows) -> None:
    for line in refused:
        month = month_of(line.record_at_ms)
        rows.misplaced += line.reason is Reason.PARTITION_WRONG
        rows.add(
            "rejected",
            month,
            month=[month],
            topic=["clicks"],
            partition=[state.number],
            position=[line.position],
            rejected_at=[line.record_at_ms],
            reason=[str(line.reason)],
            detail=[line.detail],
            raw=[rules.erased.scrubbed(line.raw)[: rules.raw_max_bytes]],
            member_id=[""],
            site_id=[""],
        )
        state.tally(month, "rejected", 1)


def add_progress(state: PartitionState, written_at_ms: int, rows: Rows) -> None:
    """Add the row that declares everything up to the state's position counted. It must be written last."""
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
