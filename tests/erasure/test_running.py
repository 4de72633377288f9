"""An erasure beside a worker that runs, on a real log."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import EmbeddedBroker
from streams.replay import replay
from streams.settings import StreamsSettings
from tests.erasure.test_erasure import MEMBER, PARTITIONS, mentions, renamed
from tests.support.clicks import NOVEMBER, send, traffic
from tests.support.recount import assert_counted
from tests.support.waiting import accepted
from tests.support.worker import StreamWorker
from warehouse.erasure.erase import Erasure, erase
from warehouse.storage.client import Warehouse


def erased_in_thread(url: str) -> Erasure:
    own = Warehouse(url)
    try:
        return erase(own, MEMBER, PARTITIONS, log_days=100, settle_s=3)
    finally:
        own.close()


async def until_accepted(warehouse: Warehouse, clicks: int, worker: StreamWorker) -> None:
    deadline = time.monotonic() + 60
    while accepted(warehouse) < clicks:
        assert worker.running(), worker.tail(30)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_erasure_under_load_changes_no_count_and_a_replay_of_the_log_agrees(
    embedded_broker: EmbeddedBroker, warehouse: Warehouse, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = embedded_broker.address
    await create_topics(
        broker, [TopicPlan(topic, PARTITIONS).unbounded(), TopicPlan(f"{topic}-rejected", 1).unbounded()]
    )
    clicks = traffic(1500, members=15, undo=0.1)
    with StreamWorker(tmp_path, broker=broker, warehouse=warehouse, topic=topic) as worker:
        await send(broker, topic, clicks[:500], partitions=PARTITIONS, block=10)
        await until_accepted(warehouse, 500, worker)
        erasing = asyncio.create_task(asyncio.to_thread(erased_in_thread, warehouse.url))
        for start in range(500, 1500, 50):
            await send(broker, topic, clicks[start : start + 50], partitions=PARTITIONS, block=5)
            await asyncio.sleep(0.2)
        erasure = await erasing
        await until_accepted(warehouse, 1500, worker)
    assert mentions(warehouse, MEMBER) == set()
    assert_counted(warehouse, renamed(clicks, erasure))
    monkeypatch.setenv("FLATTR_BROKER", broker)
    monkeypatch.setenv("FLATTR_WAREHOUSE", warehouse.url)
    monkeypatch.setenv("FLATTR_TOPIC_CLICKS", topic)
    found = await replay(StreamsSettings(), NOVEMBER, PARTITIONS)
    assert found.same, found
    assert mentions(warehouse, MEMBER) == set()
