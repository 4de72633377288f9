from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import InvalidTimestampError

from deploy.provision.topics import DAY_MS, TopicPlan, bring_to_plan, create_topics
from deploy.stack.embedded import ROOT, ServiceProcess
from ingest.contract.month import month_after
from ingest.runtime.clock import system_clock
from ingest.runtime.topic import BEFORE_MAX, TopicSetting, topic_settings
from tests.payout.build import (
    PARTITIONS,
    Flattr,
    clock_after,
    closing,
    drained,
    flattrs_of,
    partition_of,
    pledge,
    state_month,
)  # fmt: skip
from warehouse.payout.close.close import close_month
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.log_ends import KafkaLogEnds, check_stamps
from warehouse.payout.close.months import cutoff_ms, parse_month
from warehouse.payout.close.proof import Proof
from warehouse.payout.errors import MonthLocked, PayoutRefused
from warehouse.storage.client import Warehouse

MONTH = 202611
SETTINGS = closing(close_drain_timeout_s=0)


@pytest.fixture
def month(warehouse: Warehouse) -> Warehouse:
    """One member's flattrs and pledge of November."""
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1"))
    pledge(warehouse, MONTH, {"mia": 2_000_000})
    return warehouse


def refusal(warehouse: Warehouse, number: int = MONTH, ends: Mapping[int, int] | None = None) -> str:
    """What the gate answers, having made sure that nothing was written."""

    def log_ends() -> Mapping[int, int]:
        return ends or drained()

    with pytest.raises(PayoutRefused) as refused:
        close_month(warehouse, number, clock=clock_after(number, SETTINGS), log_ends=log_ends, settings=SETTINGS)
    for table in ("pools", "payouts", "ledger", "seals", "seals_noted", "close_log", "pools_staging"):
        assert warehouse.rows(f"SELECT count() FROM {table} WHERE month = {number}") == [(0,)]
    return str(refused.value)


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "november", "202611", "2026-00"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(PayoutRefused, match="write it as YYYY-MM"):
        parse_month(text)


def test_month_that_is_not_over_is_refused_with_the_moment_from_which_it_can_be_closed(month: Warehouse) -> None:
    at_ms = cutoff_ms(MONTH, SETTINGS.grace_s) + SETTINGS.close_settle_s * 1000 - 1
    with pytest.raises(PayoutRefused, match=r"2026-11 is not over: .* from 2026-12-01 01:02:00 UTC"):
        close_month(month, MONTH, clock=lambda: at_ms, log_ends=drained, settings=SETTINGS)


def test_unknown_month_is_refused(warehouse: Warehouse) -> None:
    assert "2026-05 has neither pledges nor flattrs" in refusal(warehouse, 202605)


def test_month_before_which_another_is_open_is_refused(month: Warehouse) -> None:
    state_month(month, 202612, flattrs_of("mia ada 1"))
    assert "2026-11 is not closed yet, and months close in order: close it first" in refusal(month, 202612)


def test_month_before_a_closed_one_is_refused(month: Warehouse) -> None:
    close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
    assert "2026-10 is before 2026-11, which is already closed" in refusal(month, 202610)


def test_partition_that_is_not_counted_to_its_end_is_named(month: Warehouse) -> None:
    behind = partition_of("mia")
    said = refusal(month, ends={behind: 5})
    assert f"partition {behind} is counted to offset 4 of 5" in said
    assert "flattr streams" in said


def test_partition_that_was_never_counted_is_named(month: Warehouse) -> None:
    assert "partition 9 is counted to offset 0 of 1" in refusal(month, ends={9: 1})


def test_offsets_of_an_older_log_do_not_pass_for_this_one(month: Warehouse) -> None:
    newer = closing(log_epoch=1, close_drain_timeout_s=0)
    with pytest.raises(PayoutRefused, match="is counted to offset 0 of 1"):
        close_month(
            month, MONTH, clock=clock_after(MONTH, newer), log_ends=lambda: {partition_of("mia"): 1}, settings=newer
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
    assert "has 4 counted flattrs but the stream tallied 3" in refusal(month)


def test_second_close_is_refused_while_the_first_runs_and_passes_after_it(month: Warehouse) -> None:
    with locked(month, CLOSE), pytest.raises(MonthLocked, match="Another close is running"):
        close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
    assert close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS).balanced


async def send(broker: ServiceProcess, topic: str, records: Mapping[int, Sequence[int]]) -> None:
    """Write a record for every stamp, by partition."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.address)
    await producer.start()
    try:
        for partition, stamps in records.items():
            for stamp in stamps:
                await producer.send_and_wait(topic, b"x", partition=partition, timestamp_ms=stamp)
    finally:
        await producer.stop()


async def test_log_ends_are_past_every_record_whatever_its_stamp(broker: ServiceProcess, topic: str) -> None:
    await create_topics(broker.address, [TopicPlan(topic, PARTITIONS).unbounded()])
    now = system_clock()
    await send(broker, topic, {0: (now + DAY_MS, now - DAY_MS, now), 1: (0, now), 2: (now,)})
    assert await KafkaLogEnds(broker.address, topic, settle_ms=None).ask() == {0: 3, 1: 2, 2: 1, 3: 0}
    with pytest.raises(PayoutRefused, match="has no topic 'nowhere'"):
        await KafkaLogEnds(broker.address, "nowhere", settle_ms=None).ask()


def logged_with_a_fast_ingest(broker: ServiceProcess, topic: str) -> None:
    """An ingest three minutes fast has stamped past the cut-off; behind it stand three clicks stamped in time."""
    cutoff = cutoff_ms(MONTH, SETTINGS.grace_s)
    asyncio.run(create_topics(broker.address, [TopicPlan(topic, PARTITIONS).unbounded()]))
    fast = cutoff + 180_000
    asyncio.run(send(broker, topic, {partition_of("mia"): (fast, cutoff - 3000, cutoff - 2000, cutoff - 1000)}))


def count_three_more(warehouse: Warehouse) -> None:
    """What a lagging stream states in the end: the three of mia, at offsets 1 to 3."""
    state_month(warehouse, MONTH, flattrs_of("mia ada 3"))


def test_a_fast_ingest_and_a_lagging_stream_do_not_close_a_month_without_three_flattrs_in_time(
    warehouse: Warehouse, broker: ServiceProcess, topic: str
) -> None:
    logged_with_a_fast_ingest(broker, topic)
    pledge(warehouse, MONTH, {"mia": 2_000_000})
    state_month(warehouse, MONTH, [])
    settings = closing(close_drain_timeout_s=30)
    log_ends = KafkaLogEnds(broker.address, topic, settle_ms=None)
    steps: list[str] = []

    def step_done(step: str, _percent: int) -> None:
        if not steps:
            count_three_more(warehouse)
        steps.append(step)

    proof = close_month(
        warehouse, MONTH, clock=clock_after(MONTH, settings), log_ends=log_ends, settings=settings, progress=step_done
    )
    assert steps[0] == f"partition {partition_of('mia')} is counted to offset 1 of 4"
    assert (proof.flattrs, proof.paid_micro) == (3, 1_800_000)


def test_who_is_behind_is_named_when_the_stream_does_not_catch_up(
    warehouse: Warehouse, broker: ServiceProcess, topic: str
) -> None:
    logged_with_a_fast_ingest(broker, topic)
    pledge(warehouse, MONTH, {"mia": 2_000_000})
    state_month(warehouse, MONTH, [])
    log_ends = KafkaLogEnds(broker.address, topic, settle_ms=None)
    with pytest.raises(PayoutRefused, match=f"partition {partition_of('mia')} is counted to offset 1 of 4"):
        close_month(warehouse, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=log_ends, settings=SETTINGS)
    assert warehouse.rows("SELECT (SELECT count() FROM seals), (SELECT count() FROM close_log)") == [(0, 0)]


def test_a_log_that_grows_while_the_gate_waits_does_not_make_it_wait_for_ever(month: Warehouse) -> None:
    asked: list[int] = []

    def growing() -> Mapping[int, int]:
        asked.append(len(asked))
        return {partition_of("mia"): 5 + 100 * len(asked)}

    settings = closing(close_drain_timeout_s=30)

    def count_on(step: str, _percent: int) -> None:
        if step.startswith("partition"):
            month.command(
                "INSERT INTO progress SELECT partition, position + bitShiftLeft(toUInt64(200), 16), record_at, "
                "written_at, tallies.month, tallies.accepted, tallies.counted, tallies.duplicate, tallies.undo, "
                "tallies.rejected, tallies.late FROM progress FINAL"
            )

    close_month(
        month, MONTH, clock=clock_after(MONTH, settings), log_ends=growing, settings=settings, progress=count_on
    )
    assert asked == [0]


WAITING = """
import sys
from tests.payout.build import clock_after, closing
from warehouse.storage.client import Warehouse
from warehouse.payout.close.close import close_month

settings = closing(close_drain_timeout_s=60)
close_month(Warehouse(sys.argv[1]), 202611, clock=clock_after(202611, settings), log_ends=lambda: {0: 1000},
            settings=settings, progress=lambda step, _percent: print(step, flush=True))
"""


def test_close_killed_while_it_waits_leaves_nothing_and_the_lock_free(month: Warehouse) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING, month.url], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert b"partition 0 is counted to offset" in child.stdout.readline()
        child.kill()
    assert month.rows("SELECT (SELECT count() FROM seals), (SELECT count() FROM close_log)") == [(0, 0)]
    deadline = time.monotonic() + 10
    while True:
        try:
            proof = close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
        except MonthLocked:
            assert time.monotonic() < deadline
        else:
            break
    assert proof.balanced


async def test_topic_as_planned_lets_no_record_into_a_month_when_the_gate_has_asked(
    kafka: ServiceProcess, topic: str
) -> None:
    await create_topics(kafka.address, [TopicPlan(topic, 1)])
    asking = KafkaLogEnds(kafka.address, topic, settle_ms=SETTINGS.close_settle_s * 1000)
    assert await asking.ask() == {0: 0}
    for off_by_ms in (-90_000, 90_000):
        with pytest.raises(InvalidTimestampError):
            await send(kafka, topic, {0: [system_clock() + off_by_ms]})
    await send(kafka, topic, {0: [system_clock() - 30_000, system_clock() + 30_000]})
    assert await asking.ask() == {0: 2}


async def test_topic_that_takes_old_stamps_is_refused_until_topics_create_bounds_them(
    kafka: ServiceProcess, topic: str
) -> None:
    plan = TopicPlan(topic, 1)
    await create_topics(kafka.address, [replace(plan, behind_max_ms=61_000, retention_ms=-1)])
    asking = KafkaLogEnds(kafka.address, topic, settle_ms=SETTINGS.close_settle_s * 1000)
    with pytest.raises(PayoutRefused, match=r"records stamped 61 s ago.*`flattr topics create`"):
        await asking.ask()
    (change,) = await bring_to_plan(kafka.address, [plan])
    assert (change.setting, change.before, change.after) == (BEFORE_MAX, "61000", "60000")
    assert await asking.ask() == {0: 0}
    assert await bring_to_plan(kafka.address, [plan]) == []
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    assert (await topic_settings(admin, topic))["retention.ms"].value == "-1"
    await admin.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "that needs Kafka 3.6 or newer"),
        ({BEFORE_MAX: TopicSetting(str((1 << 63) - 1), own=False)}, "a record could enter the month"),
        ({BEFORE_MAX: TopicSetting("60001", own=True)}, "a record could enter the month"),
    ],
)
def test_what_a_topic_says_of_its_stamps_must_fit_the_settling_time(
    settings: dict[str, TopicSetting], said: str
) -> None:
    with pytest.raises(PayoutRefused, match=said):
        check_stamps("clicks", settings, 120_000)
    check_stamps("clicks", {"message.timestamp.type": TopicSetting("LogAppendTime", own=True)}, 120_000)


def test_month_of_which_there_are_only_undos_does_not_stand_in_the_way(month: Warehouse) -> None:
    state_month(month, 197001, [Flattr("mia", "ada", "old", clicked=False, undone=True)])
    assert close_month(month, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS).balanced


def test_counted_flattrs_of_1970_are_named_with_the_setting_that_leaves_them_out(month: Warehouse) -> None:
    state_month(month, 197001, flattrs_of("mia ada 1"))
    said = refusal(month)
    assert "1970-01 is not closed yet" in said
    assert "FLATTR_CLOSE_FIRST_MONTH=2026-11" in said
    settings = closing(close_first_month="2026-11")
    assert close_month(month, MONTH, clock=clock_after(MONTH, settings), log_ends=drained, settings=settings).balanced


def test_lock_of_a_killed_holder_is_free_within_seconds(warehouse: Warehouse) -> None:
    script = (
        "import sys, time\nfrom warehouse.storage.client import Warehouse\n"
        "from warehouse.payout.close.lock import CLOSE, locked\n"
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


def test_month_with_flattrs_and_without_any_pledge_does_not_close_unasked(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nnil bob 4"))
    closing_month = partial(close_month, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
    with pytest.raises(PayoutRefused, match=r"No pledge of 2026-11 is imported, and 6 flattrs were counted"):
        closing_month(warehouse, MONTH)
    assert closing_month(warehouse, MONTH, without_pledges=True).members_unfunded == 2


@pytest.mark.parametrize("source", ["pledges", "adjustments", "earlier months"])
def test_money_of_two_currencies_is_never_added_up(source: str, warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2"))
    pledge(warehouse, MONTH, {"mia": 2_000_000})
    month, settings = MONTH, SETTINGS
    if source == "earlier months":
        close_month(warehouse, MONTH, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
        month, settings = month_after(MONTH), closing(close_currency="JPY")
        state_month(warehouse, month, flattrs_of("mia ada 2"))
    elif source == "pledges":
        settings = closing(close_currency="USD")
    else:
        names = "version, id, kind, debit_class, debit_owner, credit_class, credit_owner, amount_micro, currency, cites"
        warehouse.command(
            f"INSERT INTO adjustments ({names}, reason) "
            "SELECT 1, 'x', 'correct', 'fee', '', 'creator', 'ada', 1, 'USD', 'x', 'x'"
        )
    with pytest.raises(PayoutRefused, match=f"{source} in [A-Z]{{3}}.*never added up"):
        close_month(warehouse, month, clock=clock_after(month, settings), log_ends=drained, settings=settings)


def test_nothing_is_published_unless_it_is_confirmed(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2"))
    pledge(warehouse, MONTH, {"mia": 2_000_000})
    closing_month = partial(close_month, clock=clock_after(MONTH, SETTINGS), log_ends=drained, settings=SETTINGS)
    shown: list[Proof] = []

    def look(proof: Proof) -> bool:
        shown.append(proof)
        return False

    with pytest.raises(PayoutRefused, match="nothing was published"):
        closing_month(warehouse, MONTH, confirm=look)
    assert warehouse.rows("SELECT (SELECT count() FROM payouts), (SELECT count() FROM seals)") == [(0, 0)]
    assert closing_month(warehouse, MONTH, confirm=lambda proof: proof == shown[0]) == shown[0]
