"""State from a real warehouse."""

from __future__ import annotations

from dataclasses import replace

from ingest.contract.click import Click, encode
from streams.clicks.pseudonyms import ErasureList
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.recovery import Recovery, load_partition, months_from, take_in_newer
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import LogRecord
from streams.state.hash_table import SLOT_WORDS, HashTable
from streams.state.partition import MonthState, PartitionState
from tests.support.clicks import NOVEMBER, make_click, partition_of, traffic
from tests.support.ledger import Ledger
from tests.support.recount import recount
from warehouse.storage.client import Warehouse

PARTITIONS = 3
RULES = CountingRules(partitions=PARTITIONS, epoch=0, grace_ms=1 << 40, topic="clicks")


def count_all(
    states: list[PartitionState], clicks: list[Click], first_offset: int = 0, rules: CountingRules = RULES
) -> Rows:
    """One click per record, in the order given; months start empty."""
    rows = Rows()
    for state in states:
        own = [click for click in clicks if partition_of(click.member_id, PARTITIONS) == state.number]
        records = [LogRecord(first_offset + at, click.received_at, encode(click)) for at, click in enumerate(own)]
        count_records(state, records, rules, lambda _month: MonthState(), rows)
        add_progress(state, 0, rows)
    return rows


def test_recovered_state_is_the_state_that_was_written(warehouse: Warehouse) -> None:
    clicks = traffic(2000, undo=0.2)
    states = [PartitionState(number) for number in range(PARTITIONS)]
    writer = Writer(warehouse, patience_s=1)
    rules = replace(RULES, erased=ErasureList(warehouse).newest())
    writer.write(count_all(states, clicks, rules=rules))
    recovery = Recovery(warehouse, PARTITIONS, writer.write, ErasureList(warehouse).newest)
    joined = recovery.load([load_partition(warehouse, state.number) for state in states], NOVEMBER)
    for state, of_all in zip(states, joined, strict=True):
        recovered = load_partition(warehouse, state.number)
        assert (recovered.position, recovered.record_at_ms, recovered.tallies) == (
            state.position, state.record_at_ms, state.tallies,
        )  # fmt: skip
        (alone,) = recovery.load([recovered], NOVEMBER)
        written = state.months[NOVEMBER]
        for month in (of_all, alone):
            for name in ("flattrs", "creators", "things", "pairs"):
                assert contents(getattr(month, name)) == contents(getattr(written, name)), name
            assert month.first_positions == {}


def contents(table: HashTable) -> dict[tuple[int, int], int]:
    slots = table.slots.reshape(-1, SLOT_WORDS)
    return {(int(high), int(low)): int(value) for high, low, value in slots if value}


def test_counts_that_a_crash_kept_back_are_stated_at_recovery(warehouse: Warehouse) -> None:
    clicks = traffic(500, undo=0.2)
    states = [PartitionState(number) for number in range(PARTITIONS)]
    rows = count_all(states, clicks)
    rows.blocks = {key: block for key, block in rows.blocks.items() if key[0] in {"flattrs", "duplicates", "undos"}}
    writer = Writer(warehouse, patience_s=1)
    writer.write(rows)
    states = [load_partition(warehouse, number) for number in range(PARTITIONS)]
    Recovery(warehouse, PARTITIONS, writer.write, ErasureList(warehouse).newest).load(states, NOVEMBER)
    found = warehouse.rows("SELECT sum(flattrs) FROM counts_by_creator FINAL")
    assert found == [(sum(recount(clicks).flattrs.values()),)]


def test_flattr_that_a_zombie_wrote_between_the_two_queries_is_in_the_counts() -> None:
    ledger, click = Ledger(), make_click()
    state = PartitionState(partition_of(click.member_id, PARTITIONS))
    ledger.write(count_all([state], [click]), steps=2)
    month = months_from([], {state.number: 0})[state.number]
    rows = take_in_newer(month, state.number, NOVEMBER, -1, ledger.newer(NOVEMBER, -1))
    assert month.flattrs.size == 1
    assert rows.of("counts_by_creator")[0]["flattrs"] == [1]
