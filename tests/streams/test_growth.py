"""More partitions: what was known of every member is known in the new ones, whatever died on the way."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import msgspec
import pytest

from ingest.contract.click import Click, encode
from ingest.contract.position import epoch_of
from streams.clicks.pseudonyms import ErasureList
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.errors import LogMismatch
from streams.recovery import Recovery, load_partition
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import LogRecord
from streams.source.log_partitions import check_not_moving, note_partitions
from streams.state.partition import MonthState, PartitionState
from tests.streams.test_true_time import DAY, HOUR, MIN, S, attempt
from tests.support.clicks import NOVEMBER, NOVEMBER_MS, partition_of
from tests.support.recount import assert_states, recount
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.counts.receipts import awaits_counting
from warehouse.erasure.erase import erase
from warehouse.growth.carry import carry
from warehouse.moves.notes import Move, Step, left, moving, note
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse

BEFORE, GRACE_MS = 4, HOUR
STEPS = ("retimed", "counts by creator", "counts by thing", "progress", "partitions")


class Crash(Exception):
    pass


class Log:
    """One log and what its workers do, without Kafka. Every batch is that of workers that have just begun."""

    def __init__(self, warehouse: Warehouse, partitions: int, epoch: int) -> None:
        self.warehouse = warehouse
        self.partitions = partitions
        self.epoch = epoch
        self.offset = 0

    def count(self, clicks: Iterable[Click]) -> None:
        note_partitions(self.warehouse, self.epoch, self.partitions)
        listed = ErasureList(self.warehouse).newest
        rules = CountingRules(self.partitions, self.epoch, GRACE_MS, "clicks", listed())
        writer = Writer(self.warehouse, patience_s=5)
        recovery = Recovery(self.warehouse, self.partitions, writer.write, erased=listed)
        records: dict[int, list[LogRecord]] = {}
        for click in clicks:
            own = records.setdefault(partition_of(click.member_id, self.partitions), [])
            own.append(LogRecord(self.offset, click.received_at, encode(click)))
            self.offset += 1
        for number, own in records.items():
            rows, state = Rows(), load_partition(self.warehouse, number)
            count_records(state, own, rules, functools.partial(self._load, recovery, state), rows)
            add_progress(state, 0, rows)
            writer.write(rows)

    @staticmethod
    def _load(recovery: Recovery, state: PartitionState, month: int) -> MonthState:
        return recovery.load([state], month)[0]


def presses(count: int, seed: int, members: int = 40) -> list[Click]:
    """Clicks around the beginning of November, by clocks that are right and wrong, with retries hours later."""
    rng = random.Random(seed)
    found: list[Click] = []
    for number in range(count):
        pressed = NOVEMBER_MS + rng.choice([-2 * HOUR, -MIN, -1, 0, MIN, HOUR, 9 * HOUR]) + rng.randrange(MIN)
        skew = rng.choice([0, 0, 0, 45 * S, -45 * S, 2 * MIN, -HOUR, -DAY])
        for waited in [0, *rng.choices([40 * MIN, 2 * HOUR, 8 * HOUR], k=rng.choice([0, 0, 1, 2]))]:
            found.append(
                attempt(
                    pressed, skew=skew, skew_then=skew + rng.choice([0, 0, 45 * S]), waited=waited,
                    way=rng.choice([0, 100, 70 * S]), member=f"member-{rng.randrange(members)}" if not waited else
                    found[-1].member_id, thing=f"thing-{rng.randrange(4)}" if not waited else
                    found[-1].thing.rpartition("/")[2], undo=rng.random() < 0.2 if not waited else
                    found[-1].action == "undo", number=seed * 1_000_000 + number,
                )
            )  # fmt: skip
    return sorted(found, key=lambda click: click.received_at)


def moved(before: int, after: int, epoch: int = 1) -> Move:
    return Move(epoch, "clicks", before, f"clicks-e{epoch}", after, {"max.message.bytes": "1048588"})


def dying_after(step: str) -> Callable[[str], None]:
    def die(done: str) -> None:
        if done == step:
            raise Crash

    return die


def shown(warehouse: Warehouse) -> list[tuple[object, ...]]:
    """Counts as anybody reads them, of creators and of things."""
    things = "SELECT thing_id, argMax(flattrs, position) AS n FROM counts_by_thing GROUP BY month, thing_id, partition"
    return [
        *warehouse.rows("SELECT month, creator_id, flattrs FROM creator_flattrs ORDER BY ALL"),
        *warehouse.rows(f"SELECT thing_id, sum(n) FROM ({things}) GROUP BY ALL ORDER BY ALL"),
    ]


def equations(warehouse: Warehouse, partitions: int) -> list[str]:
    return [str(one) for one in check_warehouse(warehouse, read_reached(warehouse, partitions, 9)) if not one.holds]


@pytest.mark.parametrize("factor", [2, 4])
def test_log_that_moves_and_dies_after_every_step_counts_on_as_if_it_had_been_one(
    warehouse: Warehouse, factor: int
) -> None:
    clicks = presses(700, seed=factor)
    cuts = [0, 500, 1000, len(clicks)]
    first, second, third = (clicks[begin:end] for begin, end in pairwise(cuts))
    old = Log(warehouse, BEFORE, 0)
    old.count(first)
    assert equations(warehouse, BEFORE) == []
    seen = shown(warehouse)
    move = moved(BEFORE, BEFORE * factor)
    for step in STEPS:
        with pytest.raises(Crash):
            carry(warehouse, move, dying_after(step))
        # Whoever looks meanwhile, with either number, sees what was there.
        assert shown(warehouse) == seen
        assert equations(warehouse, BEFORE if step not in {"progress", "partitions"} else move.partitions) == []
    assert_states(warehouse, recount(first, grace_ms=GRACE_MS))
    new = Log(warehouse, move.partitions, 1)
    new.count(second)
    new.count(third)
    assert_states(warehouse, recount(clicks, grace_ms=GRACE_MS))
    assert equations(warehouse, move.partitions) == []
    assert warehouse.rows("SELECT count() FROM counts_by_creator_moving") == [(0,)]


def test_log_that_moves_twice_knows_everybody(warehouse: Warehouse) -> None:
    clicks = presses(600, seed=7)
    third = len(clicks) // 3
    Log(warehouse, 2, 0).count(clicks[:third])
    carry(warehouse, moved(2, 4))
    Log(warehouse, 4, 1).count(clicks[third : 2 * third])
    carry(warehouse, moved(4, 16, epoch=2))
    Log(warehouse, 16, 2).count(clicks[2 * third :])
    assert_states(warehouse, recount(clicks, grace_ms=GRACE_MS))
    assert equations(warehouse, 16) == []


def test_worker_of_the_old_log_that_wakes_up_changes_nothing(warehouse: Warehouse) -> None:
    clicks = presses(200, seed=3)
    asleep: list[Rows] = []
    old = Log(warehouse, BEFORE, 0)

    listed = ErasureList(warehouse).newest
    for number in range(BEFORE):
        rows, state = Rows(), PartitionState(number)
        own = [click for click in clicks if partition_of(click.member_id, BEFORE) == number]
        records = [LogRecord(clicks.index(click), click.received_at, encode(click)) for click in own]
        count_records(
            state, records, CountingRules(BEFORE, 0, GRACE_MS, "clicks", listed()), lambda _: MonthState(), rows
        )
        add_progress(state, 0, rows)
        asleep.append(rows)
    old.count(clicks)
    carry(warehouse, moved(BEFORE, 8))
    later = presses(200, seed=4)
    Log(warehouse, 8, 1).count(later)
    for rows in asleep:
        Writer(warehouse, patience_s=5).write(rows)
    expected = recount([*clicks, *later], grace_ms=GRACE_MS)
    assert_states(warehouse, expected)
    assert equations(warehouse, 8) == []


def test_erased_member_stays_one_member(warehouse: Warehouse) -> None:
    clicks = presses(700, seed=5, members=6)
    half = len(clicks) // 2
    Log(warehouse, BEFORE, 0).count(clicks[:half])
    names = {
        member: erase(warehouse, member, BEFORE, log_days=100, settle_s=0).pseudonym
        for member in ("member-1", "member-2", "member-3")
    }
    for member, pseudonym in names.items():
        assert partition_of(member, 4 * BEFORE) == partition_of(pseudonym, 4 * BEFORE)
    carry(warehouse, moved(BEFORE, 4 * BEFORE))
    # Their clicks go on coming, from the log or with a token that is valid for a while.
    Log(warehouse, 4 * BEFORE, 1).count(clicks[half:])
    renamed = [msgspec.structs.replace(one, member_id=names.get(one.member_id, one.member_id)) for one in clicks]
    assert_states(warehouse, recount(renamed, grace_ms=GRACE_MS))
    # Each was listed when there were 4: among 32 they might part.
    with pytest.raises(PayoutRefused, match="3 erased members would not share a partition with their pseudonyms"):
        carry(warehouse, moved(4 * BEFORE, 8 * BEFORE, epoch=2))
    warehouse.command("ALTER TABLE erasures UPDATE forget_at = now() - 1 WHERE 1 SETTINGS mutations_sync = 2")
    carry(warehouse, moved(4 * BEFORE, 8 * BEFORE, epoch=2))


def test_erasure_that_is_not_finished_keeps_the_number(warehouse: Warehouse) -> None:
    Log(warehouse, BEFORE, 0).count(presses(20, seed=1))
    with pytest.raises(Crash):
        erase(
            warehouse,
            "member-1",
            BEFORE,
            log_days=9,
            settle_s=0,
            step_done=lambda step, _: dying_after("flattrs")(step),
        )
    with pytest.raises(PayoutRefused, match="was interrupted: run the same `flattr member erase` again"):
        carry(warehouse, moved(BEFORE, 8))


def test_who_is_set_to_the_other_log_is_told_where_it_is(warehouse: Warehouse) -> None:
    note_partitions(warehouse, 0, BEFORE)
    move = moved(BEFORE, 8)
    assert (left(warehouse, 0), moving(warehouse)) == ("", "")
    note(warehouse, move, Step.BEGUN)
    check_not_moving(warehouse, 0)
    assert "run `flattr topics grow 8` again" in moving(warehouse)
    # Nobody begins to count the new log before it is known what it goes on from.
    with pytest.raises(LogMismatch, match="The log is moving from clicks"):
        note_partitions(warehouse, 1, 8)
    note(warehouse, move, Step.DRAINED, ends=[1, 2, 3, 4], months=[NOVEMBER])
    with pytest.raises(LogMismatch, match=r"The log is moving from clicks \(4 partitions\) to clicks-e1 \(8"):
        check_not_moving(warehouse, 0)
    carry(warehouse, move)
    note_partitions(warehouse, 1, 8)
    check_not_moving(warehouse, 1)
    with pytest.raises(LogMismatch, match="set FLATTR_TOPIC_CLICKS=clicks-e1 and FLATTR_LOG_EPOCH=1"):
        note_partitions(warehouse, 0, BEFORE)
    note(warehouse, move, Step.DONE)
    assert moving(warehouse) == ""


def test_click_of_the_new_log_is_on_its_way_until_it_is_counted(warehouse: Warehouse) -> None:
    Log(warehouse, BEFORE, 0).count(presses(50, seed=1))
    carry(warehouse, moved(BEFORE, 8))
    assert all(awaits_counting(warehouse, number, 0) for number in range(8))
    Log(warehouse, 8, 1).count(presses(50, seed=2))
    (reached,) = {epoch_of(position) for position in read_reached(warehouse, 8, 1).positions}
    assert reached == 1
    assert not awaits_counting(warehouse, partition_of("member-0", 8), 0)
