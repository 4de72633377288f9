"""Recounts a month from the log and compares it with what was counted, row by row and tally by tally.

A log that has grown is read as it was counted: the old topic to its end, then the new one, whose partitions go on from
the state of the one that their members come from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer

from ingest.contract.month import month_after, month_before, month_start_ms
from ingest.contract.position import position
from ingest.runtime.kafka_settings import client_security
from streams.clicks.pseudonyms import ErasureList
from streams.counting.count_batch import CountingRules, count_records, rules_from
from streams.recovery import load_partition, take_in_retimed
from streams.settings import StreamsSettings
from streams.sink.flush_rows import Rows
from streams.source.chunk import LogRecord
from streams.source.log_partitions import check_log
from streams.source.month_logs import MonthLog, Ranges, logs_of, ranges_of
from streams.state.partition import MonthState, PartitionState
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
    with closing(Warehouse(settings.warehouse_url, timeout_s=600)) as warehouse:
        refuse_archived(warehouse, month_before(month), month, month_after(month))
        check_log(warehouse, settings.log_epoch)
        return await _replay(settings, warehouse, month, partitions, say)


async def _replay(
    settings: StreamsSettings, warehouse: Warehouse, month: int, partitions: int, say: Callable[[int, int], None]
) -> Replay:
    counted = [load_partition(warehouse, number) for number in range(partitions)]
    logs = await logs_of(settings, warehouse, month, counted)
    rules = rules_from(settings, partitions, ErasureList(warehouse).newest())
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.broker,
        **client_security(settings),
        enable_auto_commit=False,
        max_partition_fetch_bytes=settings.streams_fetch_bytes,
    )
    await consumer.start()
    try:
        ranges = [await ranges_of(consumer, log, month) for log in logs]
        warehouse.command("ALTER TABLE replayed_flattrs DROP PARTITION %(month)s", {"month": month})
        warehouse.command("TRUNCATE TABLE replayed_orders")
        recount = _Recount(warehouse, consumer, rules, month, say)
        await recount.run(logs, ranges)
    finally:
        await consumer.stop()
    until = [max(0, state.position) for state in counted]
    differences = warehouse.rows(named("replay_differences"), {"month": month, "until": until})
    times = {"from_ms": month_start_ms(month), "to_ms": month_start_ms(month_after(month)), "until": until}
    differences += warehouse.rows(named("replay_orders_differences"), times)
    (flattrs,) = warehouse.rows("SELECT count() FROM replayed_flattrs FINAL WHERE month = %(month)s", {"month": month})[
        0
    ]
    return Replay(
        month,
        sum(sum(tallies["accepted"] for tallies in state.tallies.values()) for state in recount.states),
        flattrs,
        [(member, creator, thing, what) for member, creator, thing, what in differences],
        _tallies(counted, month),
        _tallies(recount.states, month),
    )


#: The months of one partition.
Months = dict[int, MonthState]


class _Recount:
    """Counts the logs of a month, one after the other. ``states`` are those of all partitions of all of them."""

    def __init__(
        self,
        warehouse: Warehouse,
        consumer: AIOKafkaConsumer,
        rules: CountingRules,
        month: int,
        say: Callable[[int, int], None],
    ) -> None:
        self.states: list[PartitionState] = []
        self._warehouse = warehouse
        self._consumer = consumer
        self._rules = rules
        self._month = month
        self._say = say

    async def run(self, logs: list[MonthLog], ranges: list[Ranges]) -> None:
        """Count all that is in the ranges, which are those of the logs."""
        done, total = 0, sum(max(0, end - start) for each in ranges for start, end in each.values())
        is_whole = logs[0].epoch == 0 and not any(start for each in ranges for start, _ in each.values())
        # The state drops old months; these dictionaries hold on to them, as they cannot be loaded again here.
        months: list[Months] = []
        for log, of_log in zip(logs, ranges, strict=True):
            months = _months_of_children(months, len(log.ends))
            if not is_whole:
                for (tp, (start, _)), own in zip(of_log.items(), months, strict=True):
                    self._take_in_decided(log, tp.partition, start, own)
            done = await self._count(log, of_log, months, done, total)

    def _take_in_decided(self, log: MonthLog, number: int, start: int, months: Months) -> None:
        """Add the decisions about clicks from before this log's start.

        If the log was truncated or recreated, first attempts that decided later ones may be gone
        (streams/counting/decide.py).
        """
        counted_until = position(log.epoch, start, 0) - 1
        if counted_until < 0:
            return
        for near in (month_before(self._month), self._month, month_after(self._month)):
            which = {"month": near, "numbers": [number]}
            packed = self._warehouse.packed(named("retimed_of_partitions"), which)
            take_in_retimed(packed, {number: counted_until}, {number: months[near]})

    async def _count(self, log: MonthLog, ranges: Ranges, months: list[Months], done: int, total: int) -> int:
        """Count a log from these months on. Returns how many records are done with it."""
        rules = replace(self._rules, partitions=len(log.ends), epoch=log.epoch, topic=log.topic)
        states = [PartitionState(number) for number in range(len(log.ends))]
        self.states += states
        left = {tp for tp, (start, end) in ranges.items() if start < end}
        self._consumer.assign(list(ranges))
        for tp in left:
            self._consumer.seek(tp, ranges[tp][0])
        while left:
            batches = await self._consumer.getmany(*left, timeout_ms=1000, max_records=_BATCH_RECORDS)
            rows = Rows()
            for tp, batch in batches.items():
                end = ranges[tp][1]
                records = [
                    LogRecord(each.offset, each.timestamp, each.value or b"") for each in batch if each.offset < end
                ]
                if records:
                    count_records(states[tp.partition], records, rules, months[tp.partition].__getitem__, rows)
                done += len(records)
                if batch and batch[-1].offset + 1 >= end:
                    left.discard(tp)
            self._write(rows)
            self._say(done, total)
        return done

    def _write(self, rows: Rows) -> None:
        for table, key in (
            ("replayed_flattrs", ("flattrs", self._month)),
            ("replayed_orders", ("subscription_orders", 0)),
        ):
            if key in rows.blocks:
                self._warehouse.insert(table, rows.block(*key))


def _months_of_children(parents: list[Months], partitions: int) -> list[Months]:
    """What each partition goes on from: the partition that its members were in before the log grew, or nothing."""
    months: list[Months] = [defaultdict(MonthState) for _ in range(partitions)]
    for number, own in enumerate(months if parents else []):
        for month, of_parent in parents[number % len(parents)].items():
            own[month] = of_parent.for_child()
    return months


def _tallies(states: list[PartitionState], month: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for state in states:
        for name, clicks in state.tallies.get(month, {}).items():
            sums[name] = sums.get(name, 0) + clicks
    return {name: clicks for name, clicks in sums.items() if clicks}
