from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest
from aiokafka import AIOKafkaProducer

from deploy.local import Part
from deploy.topics import TopicPlan, create_topics
from ingest.clock import system_clock
from tests.payout.build import PARTITIONS, clock_after, closing, drained, flattrs_of, partition_of, pledge, state_month
from warehouse.client import Warehouse
from warehouse.payout.close import close_month
from warehouse.payout.errors import MonthLocked, PayoutRefused
from warehouse.payout.lock import CLOSE, locked
from warehouse.payout.log_ends import KafkaLogEnds
from warehouse.payout.months import cutoff_ms, parse_month

MONTH = 202611
SETTINGS = closing()


@pytest.fixture
def month(warehouse: Warehouse) -> Warehouse:
    """One member's flattrs and pledge of November."""
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1"))
    pledge(warehouse, MONTH, {"mia": 2_000_000})
    return warehouse


def refusal(warehouse: Warehouse, number: int = MONTH, ends: Mapping[int, int] | None = None) -> str:
    """What the gate answers, having made sure that nothing was written."""

    def log_ends(_cutoff_ms: int) -> Mapping[int, int]:
        return ends or drained(0)

    with pytest.raises(PayoutRefused) as refused:
        close_month(warehouse, number, clock=clock_after(number, SETTINGS), log_ends=log_ends, settings=SETTINGS)
    for table in ("pools", "payouts", "ledger", "seals", "close_log", "pools_staging"):
        assert warehouse.rows(f"SELECT count() FROM {table} WHERE month = {number}") == [(0,)]
    return str(refused.value)


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "november", "202611", "2026-00"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(PayoutRefused, match="write it as YYYY-MM"):
        parse_month(text)


def test_month_that_is_not_over_is_refused_with_the_moment_from_which_it_can_be_closed(month: Warehouse) -> None:
    at_ms = cutoff_ms(MONTH, SETTINGS.grace_s) + SETTINGS.close_settle_s * 1000 - 1
    with pytest.raises(PayoutRefused, match=r"2026-11 is not over: .* from 2026-12-01 01:01:00 UTC on"):
        close_month(month, MONTH, clock=lambda: at_ms, log_ends=drained, settings=SETTINGS)


def test_unknown_month_is_refused(warehouse: Warehouse) -> None:
    assert "Nothing is known of 2026-05: neither pledges nor flattrs" in refusal(warehouse, 202605)


def test_month_before_which_another_is_open_is_refused(month: Warehouse) -> None:
    state_month(month, 202612, flattrs_of("mia ada 1"))
    assert "2026-11 is not closed yet: close it first" in refusal(month, 202612)


def test_month_before_a_closed_one_is_refused(month: Warehouse) -> None:
    close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
    assert "2026-10 lies before 2026-11, which is closed" in refusal(month, 202610)


def test_partition_that_is_not_counted_to_its_end_is_named(month: Warehouse) -> None:
    behind = partition_of("mia")
    said = refusal(month, ends={behind: 5})
    assert f"partition {behind} is counted to offset 4 of 5" in said
    assert "flattr streams" in said


def test_partition_that_was_never_counted_is_named(month: Warehouse) -> None:
    assert "partition 9 is counted to offset 0 of 1" in refusal(month, ends={9: 1})


def test_offsets_of_an_older_log_do_not_pass_for_this_one(month: Warehouse) -> None:
    newer = closing(log_epoch=1)
    with pytest.raises(PayoutRefused, match="is counted to offset 0 of 1"):
        close_month(
            month, MONTH, clock=clock_after(MONTH, newer), log_ends=lambda _: {partition_of("mia"): 1}, settings=newer
        )


def test_accepted_click_that_became_nothing_is_refused(month: Warehouse) -> None:
    month.command(
        "INSERT INTO progress SELECT partition, position + 1, record_at, written_at, tallies.month, "
        "arrayMap(n -> n + 1, tallies.accepted), tallies.counted, tallies.duplicate, tallies.undo, "
        "tallies.rejected, tallies.late FROM progress FINAL WHERE partition = 0"
    )
    assert "1 accepted clicks of 2026-11 are unexplained: accepted 4, counted 3" in refusal(month)


def test_flattr_that_the_stream_never_tallied_is_refused(month: Warehouse) -> None:
    month.command(
        "INSERT INTO flattrs SELECT month, 'nil', creator_id, thing_id, first_position, position, version, click_id, "
        "site_id, clicked_at FROM flattrs LIMIT 1"
    )
    assert "has 4 counted flattrs and the stream tallied 3" in refusal(month)


def test_count_that_differs_from_the_recount_is_named_by_member_and_creator(month: Warehouse) -> None:
    for creator, flattrs in (("ada", 1), ("bob", 2)):
        month.insert(
            "counts_by_member",
            {"month": [MONTH], "member_id": ["mia"], "creator_id": [creator], "flattrs": [flattrs], "position": [2]},
        )
    assert "Member mia has 2 flattrs of creator ada in 2026-11, and the stream stated 1" in refusal(month)


def test_second_close_is_refused_while_the_first_runs_and_passes_after_it(month: Warehouse) -> None:
    with locked(month, CLOSE), pytest.raises(MonthLocked, match="Another close is running"):
        close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
    assert close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS).balanced


async def test_log_ends_are_the_first_record_past_the_cutoff_or_the_end(broker: Part, topic: str) -> None:
    cutoff = system_clock() - 1_000_000  # brokers refuse stamps far from their own time
    await create_topics(broker.address, [TopicPlan(topic, PARTITIONS)])
    producer = AIOKafkaProducer(bootstrap_servers=broker.address)
    await producer.start()
    try:
        for partition, stamps in {0: (-2, -1, 0, 5), 1: (-2, -1), 2: (7,)}.items():
            for stamp in stamps:
                await producer.send_and_wait(topic, b"x", partition=partition, timestamp_ms=cutoff + stamp)
    finally:
        await producer.stop()
    # The embedded broker finds no record by time: there, everything must be counted to the end.
    first = 2 if broker.name == "kafka" else 4
    assert await KafkaLogEnds(broker.address, topic).ask(cutoff) == {0: first, 1: 2, 2: 0, 3: 0}
    with pytest.raises(PayoutRefused, match="There is no topic 'nowhere'"):
        await KafkaLogEnds(broker.address, "nowhere").ask(cutoff)


def test_lock_of_a_killed_holder_is_free_within_seconds(warehouse: Warehouse) -> None:
    script = (
        "import sys, time\nfrom warehouse.client import Warehouse\nfrom warehouse.payout.lock import CLOSE, locked\n"
        "with locked(Warehouse(sys.argv[1]), 'l'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, warehouse.url], stdout=subprocess.PIPE, env=os.environ)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(MonthLocked), locked(warehouse, "l"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            with locked(warehouse, "l"):
                break
        except MonthLocked:
            assert time.monotonic() < deadline
