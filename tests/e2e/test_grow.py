"""The log moves to more partitions on Apache Kafka, under load, killed with -9 after every step."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from benchmarks.grow import BEFORE, Installation, run
from deploy.errors import CommandFailed
from deploy.provision.closing import connected, final_ends
from deploy.provision.grow import Growth, Places, Wishes, check_time
from deploy.provision.topics import TopicError, TopicPlan, create_topics, own_settings
from deploy.stack.embedded import ApacheKafka, EmbeddedBroker, EmbeddedWarehouse
from ingest.contract.click import Click
from ingest.contract.month import month_start_ms
from ingest.runtime.clock import system_clock
from streams.source.log_partitions import note_partitions
from tests.payout.build import clock_after
from tests.payout.build import closing as close_settings
from tests.streams.test_growth import shown
from tests.support.clicks import send as deliver
from tests.support.clicks import traffic
from tests.support.recount import assert_counted
from tests.support.waiting import accepted, wait_until
from tests.support.worker import StreamWorker
from warehouse.moves.notes import Step, newest
from warehouse.payout.close.gate import pass_gate
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse

STEPS = (
    "created", "begun", "closed", "drained", "stopped", "retimed", "counts by creator", "counts by thing", "progress",
    "partitions", "opened", "done",
)  # fmt: skip
HOUR_MS = 3_600_000


def flattr(installation: Installation, *arguments: str, topic: str = "clicks", epoch: int = 0) -> str:
    """What a command says."""
    done = subprocess.run(
        [sys.executable, "-c", "from deploy.cli.main import main; main()", *arguments],
        env={**os.environ, **installation.environment(topic, epoch)}, cwd=installation.folder,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.timeout(400)
def test_log_that_grows_under_load_and_is_killed_after_every_step_loses_and_doubles_nothing(
    own_kafka: ApacheKafka, warehouse: Warehouse, tmp_path: Path
) -> None:
    places: list[Installation] = []

    def killed_after_every_step(installation: Installation) -> None:
        for step in STEPS:
            done = subprocess.run(
                [sys.executable, "-m", "tests.support.crashing_grow", step, str(2 * BEFORE)],
                env={**os.environ, **installation.environment("clicks", 0)}, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert done.returncode == -9, (step, done.stdout, done.stderr)
            assert (newest(warehouse) or (None, ""))[1] in {"", *Step}
        # The line that was written last is there, so that everybody is told where the log is.
        assert "has moved from clicks (4 partitions) to clicks-e1 (8" in flattr(installation, "topics", "grow", "8")
        assert "set FLATTR_TOPIC_CLICKS=clicks-e1" in flattr(installation, "streams")
        assert "set FLATTR_TOPIC_CLICKS=clicks-e1" in flattr(installation, "verify")
        assert "set FLATTR_TOPIC_CLICKS=clicks-e1" in flattr(installation, "member", "erase", "mia")
        assert "set FLATTR_TOPIC_CLICKS=clicks-e1" in flattr(installation, "replay", "--month", "2026-11")
        places.append(installation)

    found = run(tmp_path, own_kafka, warehouse, killed_after_every_step)
    assert (found["grow_lost"], found["grow_wrong"]) == (0, 0), found
    assert found["grow_in_old"] > 0
    assert found["grow_in_new"] > 0
    (installation,) = places
    assert "WRONG" not in flattr(installation, "verify", topic="clicks-e1", epoch=1)
    month = f"{system_month()[:4]}-{system_month()[4:]}"
    told = flattr(installation, "replay", "--month", month, topic="clicks-e1", epoch=1)
    assert "every row and every tally matches" in told
    again = flattr(installation, "topics", "grow", "8", "--anyway", topic="clicks-e1", epoch=1)
    assert "has moved from clicks" in again


def system_month() -> str:
    from ingest.contract.month import month_of

    return str(month_of(system_clock()))


@pytest.fixture
def counted(kafka: ApacheKafka, warehouse: Warehouse, topic: str) -> Places:
    """A log of which the warehouse knows that it has two partitions."""
    asyncio.run(create_topics(kafka.address, [TopicPlan(topic, 2)]))
    note_partitions(warehouse, 0, 2)
    return Places(kafka.address, {}, topic, 0, f"group-{topic}", warehouse)


class Died(Exception):
    pass


def dying_after(places: Places, last: str) -> Growth:
    def die(step: str) -> None:
        if step == last:
            raise Died

    return Growth(places, after_step=die)


async def send(places: Places) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=places.broker, acks=1)
    await producer.start()
    try:
        await producer.send_and_wait(places.topic, b"x", partition=0)
    finally:
        await producer.stop()


def test_topic_that_is_closed_takes_nothing_until_the_move_is_abandoned(counted: Places) -> None:
    with pytest.raises(CommandFailed, match="nothing to abandon"):
        Growth(counted).abandon()
    with pytest.raises(Died):
        dying_after(counted, "closed").grow(Wishes(4, anyway=True), system_clock, 0)
    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(send(counted))
    with pytest.raises(CommandFailed, match=r"A move from .* \(4 partitions, log epoch 1\) is not done: finish it"):
        Growth(counted).grow(Wishes(8), system_clock, 0)
    with pytest.raises(PayoutRefused, match=r"The log is moving .* run `flattr topics grow 4` again"):
        close(counted.warehouse)
    Growth(counted).abandon()
    asyncio.run(send(counted))
    with pytest.raises(CommandFailed, match="nothing to abandon"):
        Growth(counted).abandon()


def close(warehouse: Warehouse) -> None:
    warehouse.insert("progress", {"partition": [0], "position": [0]})
    warehouse.insert("flattrs", {"month": [202610], "member_id": ["ann"]})
    settings = close_settings()
    pass_gate(warehouse, 202610, clock=clock_after(202610, settings), log_ends=dict, settings=settings)


def test_move_waits_for_streams_and_says_for_what(counted: Places) -> None:
    asyncio.run(send(counted))
    with pytest.raises(CommandFailed, match=r"partition 0 is counted to offset 0 of 1. Start `flattr streams`"):
        Growth(counted).grow(Wishes(4, anyway=True, wait_s=0), system_clock, 0)
    assert (newest(counted.warehouse) or ("", ""))[1] is Step.BEGUN


def test_numbers_names_and_times_that_do_not_do_are_refused_before_anything_is_done(
    counted: Places, embedded_broker: EmbeddedBroker
) -> None:
    for number in (1, 2, 3, 6):
        with pytest.raises(CommandFailed, match="is counted by 2 partitions; it can grow to 4 or 8"):
            Growth(counted).grow(Wishes(number, anyway=True), system_clock, 0)
    with pytest.raises(TopicError, match="has 2 partitions, not 4"):
        Growth(counted).grow(Wishes(4, counted.topic, anyway=True), system_clock, 0)
    used = f"{counted.topic}-used"
    asyncio.run(create_topics(counted.broker, [TopicPlan(used, 4)]))
    asyncio.run(send(replace(counted, topic=used)))
    with pytest.raises(CommandFailed, match="has records already: choose another name with --to"):
        Growth(counted).grow(Wishes(4, used, anyway=True), system_clock, 0)
    with pytest.raises(CommandFailed, match="no topic 'nowhere'"):
        Growth(replace(counted, topic="nowhere")).grow(Wishes(4, anyway=True), system_clock, 0)
    end_ms = month_start_ms(202612)
    with pytest.raises(CommandFailed, match=r"2026-11 with its grace ends in 2.0 hours"):
        check_time(lambda: end_ms - HOUR_MS, 3600)
    with pytest.raises(CommandFailed, match=r"2026-11 with its grace ends in 0.5 hours"):
        check_time(lambda: end_ms + HOUR_MS // 2, 3600)
    check_time(lambda: end_ms + HOUR_MS, 3600)
    asyncio.run(create_topics(embedded_broker.address, [TopicPlan(counted.topic, 2)]))
    with pytest.raises(TopicError, match="the broker cannot change the settings of topic"):
        Growth(replace(counted, broker=embedded_broker.address)).grow(Wishes(4, anyway=True), system_clock, 0)
    assert newest(counted.warehouse) is None


def test_new_topic_is_as_the_old_one_was_and_the_old_one_stays_closed(counted: Places) -> None:
    move = Growth(counted).grow(Wishes(4, anyway=True), system_clock, 0)
    assert move.topic == f"{counted.topic}-e1"

    async def looked_at() -> Iterator[object]:
        async with connected(counted.broker) as admin:
            old, new = [await own_settings(admin, name) for name in (counted.topic, move.topic)]
            return iter([old, new, await final_ends(admin, move.topic, 4)])

    old, new, ends = asyncio.run(looked_at())
    assert old == {**new, "max.message.bytes": "0"}  # type: ignore[dict-item]
    assert ends == [0, 0, 0, 0]
    further = replace(counted, topic=move.topic, epoch=1)
    with pytest.raises(CommandFailed, match="has moved to topic"):
        Growth(counted).grow(Wishes(8, anyway=True), system_clock, 0)
    assert Growth(further).grow(Wishes(8, anyway=True), system_clock, 0).topic == f"{counted.topic}-e2"


RECORD_MAX = "2000000"


def count(places: Places, clicks: Sequence[Click], partitions: int, folder: Path, *, in_all: int) -> None:
    """Send clicks, if there are any, and have a worker count until there are so many in all."""
    asyncio.run(deliver(places.broker, places.topic, clicks, partitions=partitions))
    with StreamWorker(
        folder, broker=places.broker, warehouse=places.warehouse, topic=places.topic, log_epoch=places.epoch
    ) as worker:
        wait_until(lambda: accepted(places.warehouse) >= in_all, "all clicks are counted", alive=worker)


def restored(server: EmbeddedWarehouse, backup: str) -> Warehouse:
    """What `flattr restore` brings back."""
    with closing(Warehouse(server.url)) as warehouse:
        warehouse.command(f"RESTORE DATABASE {backup} AS {backup}_again FROM Disk('backups', '{backup}')")
    return Warehouse(f"{server.url}/{backup}_again")


def test_log_moves_again_after_a_backup_from_before_the_move_was_restored(
    kafka: ApacheKafka, warehouse_server: EmbeddedWarehouse, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    """The new topic has clicks by then, and the old one some that the backup knows nothing of."""
    clicks = traffic(900, undo=0.1)
    topics = [TopicPlan(topic, 2, record_max_bytes=int(RECORD_MAX)), TopicPlan(f"{topic}-rejected", 1)]
    asyncio.run(create_topics(kafka.address, [plan.unbounded() for plan in topics]))
    old = Places(kafka.address, {}, topic, 0, f"group-{topic}", warehouse)
    count(old, clicks[:300], 2, tmp_path, in_all=300)
    backup = warehouse.topology.database
    warehouse.command(f"BACKUP DATABASE {backup} TO Disk('backups', '{backup}')")
    count(old, clicks[300:600], 2, tmp_path, in_all=600)
    move = Growth(old).grow(Wishes(4, anyway=True), system_clock, 0)
    new = replace(old, topic=move.topic, epoch=1)
    asyncio.run(create_topics(kafka.address, [TopicPlan(f"{move.topic}-rejected", 1).unbounded()]))
    count(new, clicks[600:], 4, tmp_path, in_all=900)
    assert_counted(warehouse, clicks)

    with closing(restored(warehouse_server, backup)) as back:
        old, new = replace(old, warehouse=back), replace(new, warehouse=back)
        with pytest.raises(CommandFailed, match=r"is closed .* If an older backup was restored, add --again"):
            Growth(old).grow(Wishes(4, anyway=True), system_clock, 0)
        again = Wishes(4, again=True, anyway=True, wait_s=0)
        with pytest.raises(CommandFailed, match=r"partition 0 is counted to offset .* Start `flattr streams`"):
            Growth(old).grow(again, system_clock, 0)
        count(old, [], 2, tmp_path, in_all=600)
        # The spool's clicks are refused and retained until the new topic is open once more.
        with pytest.raises(Died):
            dying_after(old, "stopped").grow(again, system_clock, 0)
        with pytest.raises(MessageSizeTooLargeError):
            asyncio.run(send(new))
        assert Growth(old).grow(again, system_clock, 0) == move
        count(new, [], 4, tmp_path, in_all=900)
        assert_counted(back, clicks)
        assert shown(back) == shown(warehouse)
        more = [*clicks, *traffic(100, seed=2)]
        count(new, more[900:], 4, tmp_path, in_all=1000)
        assert_counted(back, more)
        asyncio.run(check_sizes(old, new))
        back.command(f"DROP DATABASE {back.topology.database} SYNC")


async def check_sizes(old: Places, new: Places) -> None:
    """The old topic stays closed, and the new one takes records as large as the old one took."""
    async with connected(old.broker) as admin:
        sizes = [(await own_settings(admin, one.topic))["max.message.bytes"] for one in (old, new)]
    assert sizes == ["0", RECORD_MAX]
