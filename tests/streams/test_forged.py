"""A member makes up a creator whose unkeyed hash is another creator's: each keeps a count of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import EmbeddedBroker
from tests.support.clicks import make_click, send
from tests.support.recount import assert_counted
from tests.support.waiting import accepted
from tests.support.worker import StreamWorker
from warehouse.storage.client import Warehouse

PARTITIONS = 2
CREATOR = "ada"
#: Found in 4 s on one core: MurmurHash3 x64 128 (seed 0) can be run backwards block by block, so the hash of any name
#: says which last block of 16 bytes leads to it from any three blocks before it; one in 2^23 of these is visible ASCII.
FORGED = "2V[y1,3_IV(.~_c3ug;Klu'3T&~BC4J+Yq#<}#QmXomP=pV@Wp4F&`9#gm=6Sm5L"


def test_the_pair_is_one_to_the_hash_that_streams_used_once(warehouse: Warehouse) -> None:
    sql = "SELECT murmurHash3_128(%(creator)s) = murmurHash3_128(%(forged)s)"
    assert warehouse.rows(sql, {"creator": CREATOR, "forged": FORGED}) == [(1,)]


@pytest.mark.parametrize("restarted", [False, True], ids=["the worker runs on", "the worker starts anew"])
async def test_a_forged_creator_has_a_count_of_its_own_and_changes_nobody_elses(
    embedded_broker: EmbeddedBroker, warehouse: Warehouse, topic: str, tmp_path: Path, *, restarted: bool
) -> None:
    broker = embedded_broker.address
    await create_topics(broker, [TopicPlan(topic, PARTITIONS), TopicPlan(f"{topic}-rejected", 1)])
    honest = [make_click(f"member-{number}", CREATOR, "song") for number in range(6)]
    forged = [make_click(f"member-{number}", FORGED, f"thing-{number}") for number in range(4)]
    worker = StreamWorker(tmp_path, broker=broker, warehouse=warehouse, topic=topic)
    with worker:
        await send(broker, topic, honest, partitions=PARTITIONS, block=10)
        await _counted(warehouse, len(honest), worker)
        if not restarted:
            await send(broker, topic, forged, partitions=PARTITIONS, block=10)
            await _counted(warehouse, len(honest + forged), worker)
    if restarted:
        again = StreamWorker(tmp_path, broker=broker, warehouse=warehouse, topic=topic, name="again")
        with again:
            await send(broker, topic, forged, partitions=PARTITIONS, block=10)
            await _counted(warehouse, len(honest + forged), again)
    assert_counted(warehouse, honest + forged)


async def _counted(warehouse: Warehouse, clicks: int, worker: StreamWorker) -> None:
    async with asyncio.timeout(60):
        while accepted(warehouse) < clicks:
            assert worker.running(), worker.tail(30)
            await asyncio.sleep(0.05)
