"""Real processes killed with -9 on Apache Kafka; an oracle that shares no code with the stream says what is right."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ApacheKafka, EmbeddedWarehouse, ServiceProcess
from ingest.contract.click import Click
from tests.support.clicks import send, traffic
from tests.support.recount import assert_counted
from tests.support.waiting import accepted, wait_until
from tests.support.worker import StreamWorker
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError
from warehouse.storage.migrate import migrate

PARTITIONS = 4
STEPS = ("labels", "flattrs", "counts", "progress")


async def make_topics(broker: ServiceProcess, topic: str) -> None:
    await create_topics(
        broker.address, [TopicPlan(topic, PARTITIONS).unbounded(), TopicPlan(f"{topic}-rejected", 1).unbounded()]
    )


async def test_worker_killed_between_every_two_steps_of_the_flush_changes_no_number(
    kafka: ApacheKafka, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(kafka, topic)
    clicks = traffic(4000, undo=0.2)
    await send(kafka.address, topic, clicks, partitions=PARTITIONS, block=10)

    def worker(number: int, die_after: str = "") -> StreamWorker:
        # A group of its own for each life: none waits for the dead one's session to end, and
        # each finds no offset of Kafka's to go by.
        return StreamWorker(
            tmp_path, broker=kafka.address, warehouse=warehouse, topic=topic, name=f"life-{number}",
            program=("tests.support.crashing_worker", die_after) if die_after else (),
            streams_group=f"{topic}-{number}", streams_flush_bytes=60_000,
            streams_fetch_bytes=30_000,
        )  # fmt: skip

    for number, step in enumerate(STEPS):
        dying = worker(number, f"{step}:2")
        dying.launch()
        wait_until(functools.partial(dead, dying), f"it dies after {step}")
        assert dying.process is not None
        assert dying.process.returncode == -9, dying.tail(30)
        assert accepted(warehouse) < len(clicks)
    with worker(len(STEPS)) as last:
        wait_until(lambda: accepted(warehouse) >= len(clicks), "all clicks are counted", alive=last)
    assert_counted(warehouse, clicks)


@pytest.fixture
def own_warehouse(tmp_path: Path) -> Iterator[EmbeddedWarehouse]:
    with EmbeddedWarehouse(tmp_path / "own-warehouse") as server:
        yield server


async def test_warehouse_killed_and_restarted_under_load_loses_and_doubles_nothing(
    kafka: ApacheKafka, own_warehouse: EmbeddedWarehouse, topic: str, tmp_path: Path
) -> None:
    warehouse = Warehouse(f"{own_warehouse.url}/flattr")
    migrate(warehouse)
    await make_topics(kafka, topic)
    clicks = traffic(6000, undo=0.1)
    with StreamWorker(tmp_path, broker=kafka.address, warehouse=warehouse, topic=topic) as worker:
        load = asyncio.create_task(trickle(kafka, topic, clicks))
        await until(lambda: accepted(warehouse) > 500, "the first flushes", worker)
        own_warehouse.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(own_warehouse.start)
        await load
        await until(lambda: accepted(warehouse) >= len(clicks), "all clicks are counted", worker)
    assert_counted(warehouse, clicks)
    warehouse.close()


async def test_broker_killed_and_restarted_under_load_loses_and_doubles_nothing(
    own_kafka: ApacheKafka, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(own_kafka, topic)
    clicks = traffic(4000, undo=0.1)
    with StreamWorker(tmp_path, broker=own_kafka.address, warehouse=warehouse, topic=topic) as worker:
        await trickle(own_kafka, topic, clicks[:2000])
        await until(lambda: accepted(warehouse) > 500, "the first flushes", worker)
        own_kafka.kill()
        await asyncio.to_thread(own_kafka.start)
        await trickle(own_kafka, topic, clicks[2000:])
        await until(lambda: accepted(warehouse) >= len(clicks), "all clicks are counted", worker)
    assert_counted(warehouse, clicks)


async def test_workers_that_come_go_and_die_under_load_lose_and_double_nothing(
    kafka: ApacheKafka, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(kafka, topic)
    clicks = traffic(9000, undo=0.1)
    numbers = itertools.count()

    def another() -> StreamWorker:
        worker = StreamWorker(
            tmp_path, broker=kafka.address, warehouse=warehouse, topic=topic, name=f"worker-{next(numbers)}"
        )
        worker.launch()
        return worker

    workers = [another()]
    load = asyncio.create_task(trickle(kafka, topic, clicks, pause_s=0.15))
    try:
        await until(lambda: accepted(warehouse) > 0, "the first flush", workers[0])
        workers += [another(), another()]
        await asyncio.sleep(4)
        workers[1].kill()
        await asyncio.sleep(2)
        await asyncio.to_thread(workers[0].stop)
        workers.append(another())
        await load
        await until(lambda: accepted(warehouse) >= len(clicks), "all clicks are counted", workers[2])
        assert workers[3].running(), workers[3].tail(30)
    finally:
        for worker in workers:
            worker.stop()
    assert_counted(warehouse, clicks)


def dead(part: ServiceProcess) -> bool:
    return not part.running()


async def trickle(broker: ServiceProcess, topic: str, clicks: list[Click], *, pause_s: float = 0.05) -> None:
    for at in range(0, len(clicks), 200):
        await send(broker.address, topic, clicks[at : at + 200], partitions=PARTITIONS, block=5)
        await asyncio.sleep(pause_s)


async def until(true: Callable[[], bool], what: str, alive: ServiceProcess) -> None:
    """Like ``wait_until``, while the load goes on; the warehouse may be down at times."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if true():
                return
        except WarehouseError:
            pass
        assert alive.running(), f"{alive.name} died before {what}. {alive.tail(30)}"
        assert time.monotonic() < deadline, f"{what}: not within a minute. {alive.tail(30)}"
        await asyncio.sleep(0.05)
