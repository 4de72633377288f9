"""The worker as a process, on both brokers and a real warehouse."""

from __future__ import annotations

from pathlib import Path

from deploy.local import Part
from deploy.topics import TopicPlan, create_topics
from tests.support.clicks import send, traffic
from tests.support.recount import assert_counted
from tests.support.waiting import accepted, wait_until
from tests.support.worker import StreamWorker
from warehouse.client import Warehouse

PARTITIONS = 4


async def make_topics(broker: Part, topic: str) -> None:
    await create_topics(broker.address, [TopicPlan(topic, PARTITIONS), TopicPlan(f"{topic}-rejected", 1)])


async def test_every_click_is_counted_once_in_blocks_and_alone(
    broker: Part, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(broker, topic)
    clicks = traffic(3000, undo=0.1)
    await send(broker.address, topic, clicks[:2000], partitions=PARTITIONS, block=50)
    await send(broker.address, topic, clicks[2000:], partitions=PARTITIONS, block=1)
    with StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic) as worker:
        wait_until(lambda: accepted(warehouse) >= 3000, "all clicks are counted", alive=worker)
    assert worker.process is not None
    assert worker.process.returncode == 0
    assert_counted(warehouse, clicks)


async def test_worker_killed_in_mid_flight_changes_no_number(
    broker: Part, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(broker, topic)
    clicks = traffic(4000, undo=0.1)
    worker = StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic)
    await send(broker.address, topic, clicks[:2000], partitions=PARTITIONS, block=20)
    worker.start()
    wait_until(lambda: accepted(warehouse) > 0, "the first flush", alive=worker)
    worker.kill()
    await send(broker.address, topic, clicks[2000:], partitions=PARTITIONS, block=20)
    with worker.start():
        wait_until(lambda: accepted(warehouse) >= 4000, "all clicks are counted", alive=worker)
    assert_counted(warehouse, clicks)
