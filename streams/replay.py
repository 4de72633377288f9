"""Recounts a month from the log and compares it with what was counted, row by row and tally by tally."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from ingest.contract.month import month_after, month_before, month_start_ms, month_text
from ingest.contract.position import epoch_of, offset_of, position
from ingest.runtime.kafka_settings import client_security
from streams.clicks.pseudonyms import ErasureList
from streams.counting.count_batch import CountingRules, count_records, rules_from
from streams.errors import StreamStopped
from streams.recovery import load_partition, take_in_retimed
from streams.settings import StreamsSettings
from streams.sink.flush_rows import Rows
from streams.source.chunk import LogRecord
from streams.source.log_partitions import check_log
from streams.state.partition import MonthState, PartitionState
from warehouse.moves.notes import before_moves
from warehouse.storage.archived import refuse_archived
from warehouse.storage.client import Warehouse, named

_BATCH_RECORDS = 5_000


@dataclass(frozen=True)
class Replay:
    """The result of a replay. ``differences`` lists member, creator, thing id and difference, at most 1000."""

    month: int
    clicks: int
    flattrs: int
    differences: list[tuple[str, str, str, str]]
    tallies_counted: dict[str, int]
    tallies_replayed: dict[str, int]

    @property
    def same(self) -> bool:
        """Whether the log and the warehouse agree in every row and tally."""
        return not self.differences and self.tallies_counted == self.tallies_replayed


async def replay(
    settings: StreamsSettings, month: int, partitions: int, say: Callable[[int, int], None] = lambda _done, _all: None
) -> Replay:
    """Recount the log up to each partition's progress and compare the month.

    ``say`` is called with the records done and the total. Raises ``StreamStopped`` when the log does not reach back to
    the start of the month or is not all of it, and ``MonthArchived`` when the month left the tables, or one beside it,
    whose clicks decide about those at its ends.
    """
    with closing(Warehouse(settings.warehouse_url)) as asked:
        refuse_archived(asked, month_before(month), month, month_after(month))
    warehouse = Warehouse(settings.warehouse_url, timeout_s=600)
    check_log(warehouse, settings.log_epoch)
    move = before_moves(warehouse, [month_before(month), month])
    if move is not None:
        raise StreamStopped(
            f"clicks of {month_text(month)}, or of the month before, stand in the topic {move.from_topic!r} as well: "
            f"the log has moved {move}, and a month is replayed from one log alone"
        )
    erased = ErasureList(warehouse).newest()
    rules = rules_from(settings, partitions, erased)
    counted = [load_partition(warehouse, number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.broker,
        **client_security(settings),
        enable_auto_commit=False,
        max_partition_fetch_bytes=settings.streams_fetch_bytes,
    )
    await consumer.start()
    try:
        ranges = await _ranges(consumer, rules, counted, month)
        warehouse.command("ALTER TABLE replayed_flattrs DROP PARTITION %(month)s", {"month": month})
        warehouse.command("TRUNCATE TABLE replayed_orders")
        known = functools.partial(_decided_before, warehouse, rules, month)
        states = await _recount(consumer, rules, ranges, known, functools.partial(_write, warehouse, month), say)
    finally:
        await consumer.stop()
    until = [max(0, state.position) for state in counted]
    differences = warehouse.rows(named("replay_differences"), {"month": month, "until": until})
    times = {"from_ms": month_start_ms(month), "to_ms": month_start_ms(month_after(month)), "until": until}
    differences += warehouse.rows(named("replay_orders_differences"), times)
    (flattrs,) = warehouse.rows("SELECT count() FROM replayed_flattrs FINAL WHERE month = %(month)s", {"month": month})[
        0
    ]
    warehouse.close()
    return Replay(
        month,
        sum(sum(tallies["accepted"] for tallies in state.tallies.values()) for state in states),
        flattrs,
        [(member, creator, thing, what) for member, creator, thing, what in differences],
        _tallies(counted, month),
        _tallies(states, month),
    )


Ranges = dict[TopicPartition, tuple[int, int]]


def _write(warehouse: Warehouse, month: int, rows: Rows) -> None:
    for table, key in (("replayed_flattrs", ("flattrs", month)), ("replayed_orders", ("subscription_orders", 0))):
        if key in rows.blocks:
            warehouse.insert(table, rows.block(*key))


def _decided_before(
    warehouse: Warehouse, rules: CountingRules, month: int, number: int, start: int
) -> dict[int, MonthState]:
    """A partition's months, empty except for decisions about clicks from before the log's start.

    If the log was truncated or recreated, first attempts that decided later ones may be gone
    (streams/counting/decide.py).
    """
    months: dict[int, MonthState] = defaultdict(MonthState)
    counted_until = position(rules.epoch, start, 0) - 1
    if counted_until >= 0:
        for near in (month_before(month), month, month_after(month)):
            which = {"month": near, "numbers": [number]}
            packed = warehouse.packed(named("retimed_of_partitions"), which)
            take_in_retimed(packed, {number: counted_until}, {number: months[near]})
    return months


async def _ranges(
    consumer: AIOKafkaConsumer, rules: CountingRules, counted: list[PartitionState], month: int
) -> Ranges:
    """The offsets to read of each partition: from the log's start to progress.

    A truncated log must still begin before the month does, since clicks are recorded after they are made.
    """
    tps = [TopicPartition(rules.topic, number) for number in range(rules.partitions)]
    consumer.assign(tps)
    starts = await consumer.beginning_offsets(tps)
    since = await consumer.offsets_for_times(dict.fromkeys(tps, month_start_ms(month)))
    ranges = {}
    for tp, state in zip(tps, counted, strict=True):
        start, end, first = starts[tp], _end(state, rules.epoch), since[tp]
        if 0 < start < end and (first is None or first.offset <= start):
            raise StreamStopped(
                f"{tp.topic} partition {tp.partition} begins at offset {start}, after {month} began: deleted records "
                "cannot be replayed; increase the topic's retention.ms for the future"
            )
        ranges[tp] = start, end
    return ranges


async def _recount(  # noqa: PLR0913, PLR0917 - source, rules, ranges and callbacks
    consumer: AIOKafkaConsumer,
    rules: CountingRules,
    ranges: Ranges,
    known: Callable[[int, int], dict[int, MonthState]],
    write: Callable[[Rows], None],
    say: Callable[[int, int], None],
) -> list[PartitionState]:
    states = [PartitionState(number) for number in range(rules.partitions)]
    left = {tp for tp, (start, end) in ranges.items() if start < end}
    for tp in left:
        consumer.seek(tp, ranges[tp][0])
    # The state drops old months; these dictionaries hold on to them, as they cannot be loaded again here.
    starts = {tp.partition: start for tp, (start, _) in ranges.items()}
    months = [known(state.number, starts[state.number]) for state in states]
    done, all_records = 0, sum(max(0, end - start) for start, end in ranges.values())
    while left:
        batches = await consumer.getmany(*left, timeout_ms=1000, max_records=_BATCH_RECORDS)
        rows = Rows()
        for tp, batch in batches.items():
            end = ranges[tp][1]
            records = [LogRecord(each.offset, each.timestamp, each.value or b"") for each in batch if each.offset < end]
            if records:
                count_records(states[tp.partition], records, rules, months[tp.partition].__getitem__, rows)
            done += len(records)
            if batch and batch[-1].offset + 1 >= end:
                left.discard(tp)
        write(rows)
        say(done, all_records)
    return states


def _end(state: PartitionState, epoch: int) -> int:
    """The offset after the last counted record of this log; 0 when none is counted."""
    if state.position < 0 or epoch_of(state.position) != epoch:
        return 0
    return offset_of(state.position) + 1


def _tallies(states: list[PartitionState], month: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for state in states:
        for name, clicks in state.tallies.get(month, {}).items():
            sums[name] = sums.get(name, 0) + clicks
    return {name: clicks for name, clicks in sums.items() if clicks}
