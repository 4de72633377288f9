"""Histories of clicks with crashes in them, against an oracle that counts from the definition."""

from __future__ import annotations

import functools
import resource
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.contract.click import Click, encode
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.recovery import months_from, take_in_newer, take_in_retimed
from streams.sink.flush_rows import STEPS, Rows
from streams.source.chunk import LogRecord
from streams.state.memory import UNBOUNDED, Memory
from streams.state.partition import TALLIES, MonthState, PartitionState
from tests.support.clicks import NOVEMBER_MS, make_click, partition_of, traffic
from tests.support.ledger import Ledger
from tests.support.recount import recount

PARTITIONS = 2
RULES = CountingRules(partitions=PARTITIONS, epoch=0, grace_ms=1 << 40, topic="clicks")


class Mark(Enum):
    """What stands between clicks in a history."""

    BLOCK = "the record ends here"
    FLUSH = "what was read is written"
    CRASH = "the worker dies before it writes"
    CRASH_AFTER_1 = "the worker dies after the first step"
    CRASH_AFTER_2 = "the worker dies after the second step"
    CRASH_AFTER_3 = "the worker dies after the third step"
    CRASH_AFTER_4 = "the worker dies after the last step, before it acknowledges"
    ZOMBIE = "a worker that lost its partitions goes on and writes two steps of all there is"

    @property
    def steps(self) -> int:
        """Steps of the flush that are done when the worker dies."""
        return int(self.name[-1]) if self.name[-1].isdigit() else 0


History = list[Click | Mark]


@dataclass
class Worker:
    """One worker on all partitions; the ledger and the log outlive it."""

    ledger: Ledger
    log: dict[int, list[LogRecord]]
    memory: Memory = UNBOUNDED
    rules: CountingRules = RULES

    def __post_init__(self) -> None:
        self.states = [self._recovered(number) for number in range(PARTITIONS)]

    def _recovered(self, number: int) -> PartitionState:
        state = PartitionState(number)
        row = self.ledger.progress(number)
        if row is not None:
            state.position, state.record_at_ms = row["position"], row["record_at"]
            state.tallies = {
                month: {name: row[f"tallies.{name}"][index] for name in TALLIES}
                for index, month in enumerate(row["tallies.month"])
            }
        return state

    def flush(self, steps: int = len(STEPS)) -> None:
        """Count what the log has beyond each state, and write it in one flush."""
        rows = Rows()
        for state in self.states:
            before = state.position
            load = functools.partial(self._load, state)
            count_records(state, self.log[state.number], self.rules, load, rows)
            if state.position != before:
                add_progress(state, 0, rows)
        self.ledger.write(rows, steps)

    def _load(self, state: PartitionState, month: int) -> MonthState:
        own = [row for row in self.ledger.raw_flattrs if partition_of(row["member_id"], PARTITIONS) == state.number]
        ledger = Ledger()
        ledger.raw_flattrs = own
        loaded = months_from([ledger.packed(month, state.number)], {state.number: 0}, memory=self.memory)[state.number]
        newer = ledger.newer(month, state.position)
        if newer:
            self.ledger.write(take_in_newer(loaded, state.number, month, state.position, newer))
        retimed = self.ledger.retimed_packed(month, state.number)
        take_in_retimed([retimed], {state.number: state.position}, {state.number: loaded})
        return loaded


@dataclass
class Played:
    """A history to its end: what is stated, and its clicks with the stamps of their records."""

    ledger: Ledger
    clicks: list[Click]
    stamps_ms: list[int]
    log: dict[int, list[LogRecord]]


def run(history: Iterable[Click | Mark], memory: Memory = UNBOUNDED, rules: CountingRules = RULES) -> Played:
    """Play a history to its end; the log keeps what a crash interrupts. All its clicks are counted at the end."""
    ledger = Ledger()
    log: dict[int, list[LogRecord]] = {number: [] for number in range(PARTITIONS)}
    open_blocks: dict[int, list[Click]] = {number: [] for number in range(PARTITIONS)}
    places: dict[int, list[int]] = {number: [] for number in range(PARTITIONS)}
    clicks: list[Click] = []
    stamps_ms: dict[int, int] = {}
    worker = Worker(ledger, log, memory, rules)

    def close_blocks() -> None:
        for number, block in open_blocks.items():
            if block:
                value = b"\n".join(map(encode, block))
                log[number].append(LogRecord(len(log[number]), block[-1].received_at, value))
                stamps_ms.update(dict.fromkeys(places[number], block[-1].received_at))
                block.clear()
                places[number].clear()

    for item in history:
        if isinstance(item, Click):
            number = partition_of(item.member_id, PARTITIONS)
            places[number].append(len(clicks))
            clicks.append(item)
            open_blocks[number].append(item)
            continue
        close_blocks()
        if item is Mark.FLUSH:
            worker.flush()
        elif item is Mark.ZOMBIE:
            zombie, worker = worker, Worker(ledger, log, memory, rules)
            zombie.flush(2)
        elif item is not Mark.BLOCK:
            if item is not Mark.CRASH:
                worker.flush(item.steps)
            worker = Worker(ledger, log, memory, rules)
    close_blocks()
    worker.flush()
    return Played(ledger, clicks, [stamps_ms[place] for place in range(len(clicks))], log)


def assert_right(played: Played, grace_ms: int = RULES.grace_ms) -> None:
    ledger = played.ledger
    expected, found = recount(played.clicks, played.stamps_ms, grace_ms=grace_ms), ledger.counted()
    assert found.flattrs == expected.flattrs
    assert found.tallies == expected.tallies
    assert ledger.counts("counts_by_creator", "month", "creator_id") == expected.counts(0, 2)
    assert ledger.counts("counts_by_thing", "month", "creator_id", "thing_id") == expected.counts(0, 2, 3)
    assert ledger.counts("counts_by_member", "month", "member_id", "creator_id") == expected.counts(0, 1, 2)
    labels = {"duplicates": "duplicate", "undos": "undo", "late": "late"}
    for table, label in labels.items():
        rows = sum(1 for name, *_ in ledger.labelled if name == table)
        assert rows == sum(number for (_, name), number in expected.tallies.items() if name == label)
    orders: dict[tuple[str, str, bytes, bytes, int], int] = {}
    for click in played.clicks:
        if click.action.endswith("subscribe"):
            ends = int(click.action == "unsubscribe")
            ids = bytes.fromhex(click.thing_id), uuid.UUID(click.click_id).bytes
            key = (click.member_id, click.creator_id, *ids, ends)
            orders[key] = max(orders.get(key, 0), int((click.until or "0").replace("-", "")))
    assert {key: until for key, (_, until) in ledger.orders.items()} == orders


CLICKS = st.builds(
    lambda member, thing, action, number: make_click(
        member,
        "creator-a" if thing < 2 else "creator-b",
        str(thing),
        at_ms=NOVEMBER_MS + number % 7 - 2,  # few moments, so that ties and late news are many; two months
        action=action,
        until="2027-03" if action == "subscribe" and number % 3 else None,
        click_id=str(uuid.UUID(int=number)),
    ),
    member=st.sampled_from(["anna", "bert", "carl"]),
    thing=st.integers(0, 3),
    action=st.sampled_from(["flattr", "undo", "flattr", "undo", "subscribe", "unsubscribe"]),
    number=st.integers(0, 20),
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.one_of(CLICKS, CLICKS, st.sampled_from(Mark)), max_size=40))
def test_any_history_of_flattr_undo_replay_crash_and_zombie_is_counted_as_defined(history: History) -> None:
    assert_right(run(history))


@settings(max_examples=100, deadline=None)
@given(st.lists(CLICKS, max_size=20), st.randoms(use_true_random=False))
def test_flattrs_do_not_depend_on_the_order_in_which_clicks_arrive(clicks: list[Click], random: object) -> None:
    # But that an undo reaches back into a month whose flattr came before it: tests/streams/test_true_time.py.
    clicks = [click for click in clicks if click.clicked_at >= NOVEMBER_MS]
    shuffled = list(clicks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(clicks).ledger.counted().flattrs == run(shuffled).ledger.counted().flattrs


def test_state_over_its_bound_is_kept_on_disk_and_counts_the_same() -> None:
    bounded = Memory(bound_bytes=100_000)
    clicks = traffic(4000, members=400, undo=0.2)
    history: History = [*clicks[:2000], Mark.CRASH_AFTER_2, *clicks[2000:]]
    played = run(history, bounded)
    assert played.clicks == clicks
    assert_right(played)
    assert bounded.spilled_bytes == 0  # the worker is gone, and its tables with it


def test_tables_over_the_bound_are_spilled_and_dropped_ones_give_their_room_back() -> None:
    bounded = Memory(bound_bytes=60_000)
    month = MonthState(bounded)
    assert bounded.held_bytes <= 60_000
    for table in month.tables:
        table.reserve(1000)
    assert 0 < bounded.held_bytes <= 60_000
    assert bounded.spilled_bytes > 0
    del month, table
    assert (bounded.held_bytes, bounded.spilled_bytes) == (0, 0)


def test_room_of_tables_goes_back_to_the_system_whatever_lies_between_them() -> None:
    # The allocator learns from what is freed: after this, a heap would take in all that is smaller.
    np.ones(1 << 22, np.uint64)
    tables, between = [], []
    for _ in range(200):
        tables.append(UNBOUNDED.zeros(1 << 17))
        tables[-1][:] = 1
        between.append(bytes(2000))
    held = resident_bytes()
    tables.clear()
    assert held - resident_bytes() > 190 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


A = make_click("anna", "bert", "a", at_ms=NOVEMBER_MS + 1)
A_AGAIN = make_click("anna", "bert", "a", at_ms=NOVEMBER_MS + 5)
UNDO_A = make_click("anna", "bert", "a", at_ms=NOVEMBER_MS + 2, action="undo")
B = make_click("bob", "bert", "a", at_ms=NOVEMBER_MS + 1)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([A, Mark.CRASH, A], id="crash before the write"),
        pytest.param([A, Mark.CRASH_AFTER_1], id="crash after the labels"),
        pytest.param([A, Mark.CRASH_AFTER_2], id="crash after the flattrs"),
        pytest.param([A, Mark.CRASH_AFTER_2, A], id="crash after the flattrs, then a retry of the click"),
        pytest.param([A, Mark.CRASH_AFTER_3, A, Mark.CRASH_AFTER_2, B], id="crashes in a row"),
        pytest.param([A, Mark.CRASH_AFTER_4, A], id="crash before the acknowledgement"),
        pytest.param([A, Mark.FLUSH, UNDO_A, Mark.CRASH_AFTER_2, A], id="undo, crash, late retry of the flattr"),
        pytest.param([UNDO_A, Mark.CRASH_AFTER_2, A, Mark.CRASH_AFTER_2], id="undo overtakes its flattr"),
        pytest.param([A, Mark.FLUSH, UNDO_A, Mark.FLUSH, A_AGAIN, Mark.CRASH_AFTER_2], id="flattred once more"),
        pytest.param([A, Mark.ZOMBIE, A, Mark.FLUSH, B, Mark.ZOMBIE], id="zombies"),
    ],
)
def test_crash_between_any_two_steps_changes_no_number(history: History) -> None:
    assert_right(run(history))
