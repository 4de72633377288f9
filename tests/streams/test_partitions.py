"""A topic that was given more partitions: nothing is counted in a wrong one, and whoever refuses says what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from deploy.cli.post_subscriptions import post
from deploy.errors import CommandFailed
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ApacheKafka, ServiceFailed
from ingest.log.partitions_note import note_partitions, noted_partitions
from ingest.log.producer import Producer, TopicMissing
from ingest.log.publisher import Publisher
from ingest.metrics import Metrics
from ingest.runtime.clock import system_clock
from ingest.settings import IngestSettings
from streams.errors import LogMismatch
from streams.source.log_partitions import note_partitions as note_in_warehouse
from tests.support.clicks import send, traffic
from tests.support.waiting import accepted, wait_until
from tests.support.worker import StreamWorker
from warehouse.storage.client import Warehouse


async def grow(broker: str, topic: str, partitions: int) -> None:
    """Returns when the broker shows it, which is a moment after it has done it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(partitions)})
        async with asyncio.timeout(30):
            while len((await admin.describe_topics([topic]))[0]["partitions"]) < partitions:  # noqa: ASYNC110 - Kafka's state
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def test_topic_that_grows_under_a_worker_stops_it_and_loses_no_click(
    kafka: ApacheKafka, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await create_topics(kafka.address, [TopicPlan(topic, 2).unbounded(), TopicPlan(f"{topic}-rejected", 1).unbounded()])
    first, then, last = traffic(300, seed=1), traffic(300, seed=2), traffic(300, seed=3)
    await send(kafka.address, topic, first, partitions=2, block=10)

    def worker(name: str, **settings: Any) -> StreamWorker:
        return StreamWorker(
            tmp_path, broker=kafka.address, warehouse=warehouse, topic=topic, name=name, **settings,
            streams_group=f"{topic}-{name}",
        )  # fmt: skip

    with worker("small") as small:
        wait_until(lambda: accepted(warehouse) == len(first), "the first clicks", alive=small)
        await grow(kafka.address, topic, 4)
        # A sender that has begun since then, and half of whose clicks stand where the worker does not expect them.
        await send(kafka.address, topic, then, partitions=4, block=10)
        wait_until(lambda: not small.running(), "it stops")
        assert "had 2 partitions and has 4 now. A member's clicks must stay in one partition" in small.tail(60)
    # What it counted before it saw that was in its place.
    assert warehouse.rows("SELECT count() FROM rejected") == [(0,)]

    with pytest.raises(ServiceFailed, match="counts log epoch 0 by 2 partitions, and this worker would by 4"):
        worker("large").start()

    # As the sentence says. What stands in a wrong partition is kept, to be sent again.
    with worker("told", log_partitions=2) as told:
        await send(kafka.address, topic, last, partitions=2, block=10)
        wait_until(lambda: accepted(warehouse) == 900, "all are accounted for", alive=told)
    ((misplaced, reasons),) = warehouse.rows(
        "SELECT count(), groupUniqArray(reason) FROM rejected FINAL WHERE topic = 'clicks'"
    )
    assert reasons == ["partition_wrong"]
    assert 0 < misplaced < len(then)


async def test_ingest_sends_into_the_partitions_it_began_with_or_says_why_not(
    kafka: ApacheKafka, topic: str, tmp_path: Path
) -> None:
    plans = [TopicPlan(topic, 2).unbounded(), TopicPlan(f"{topic}-rejected", 1).unbounded()]
    await create_topics(kafka.address, plans)

    def settings(**more: object) -> IngestSettings:
        given = {"FLATTR_BROKER": kafka.address, "FLATTR_TOPIC_CLICKS": topic, "FLATTR_TOPIC_REJECTED": plans[1].name}
        return IngestSettings(**given, spool=tmp_path / "spool", **more)  # type: ignore[arg-type]

    async def starts(settings: IngestSettings) -> None:
        publisher = Publisher(settings, system_clock, Metrics())
        try:
            await publisher.start()
        finally:
            await publisher.drain()

    await starts(settings())
    assert noted_partitions(tmp_path / "spool", topic) == 2
    assert noted_partitions(tmp_path / "spool", f"{topic}-e1") == 0
    await grow(kafka.address, topic, 4)
    with pytest.raises(
        TopicMissing, match=r"has 4 partitions, but clicks were sent into 2 before.*FLATTR_LOG_PARTITIONS=2"
    ):
        await starts(settings())
    with pytest.raises(TopicMissing, match="has 4 partitions, fewer than FLATTR_LOG_PARTITIONS=8"):
        await starts(settings(log_partitions=8))
    await starts(settings(log_partitions=2))
    producer = Producer(settings(log_partitions=2), 2)
    await producer.start()
    assert producer.partitions == 2
    await producer.stop()
    # A new log, or so the operator says.
    await starts(settings(log_partitions=4))
    assert noted_partitions(tmp_path / "spool", topic) == 4


async def test_subscriptions_are_not_posted_into_partitions_that_nobody_expects(
    kafka: ApacheKafka, warehouse: Warehouse, topic: str
) -> None:
    await create_topics(kafka.address, [TopicPlan(topic, 4).unbounded()])
    note_in_warehouse(warehouse, 0, 2)
    given = {"FLATTR_BROKER": kafka.address, "FLATTR_TOPIC_CLICKS": topic}
    with pytest.raises(CommandFailed, match=r"counted by 2 partitions.*into 4: set FLATTR_LOG_PARTITIONS=2"):
        await post(IngestSettings(**given), warehouse, 202611, system_clock)  # type: ignore[arg-type]
    told = IngestSettings(**given, log_partitions=2)  # type: ignore[arg-type]
    assert (await post(told, warehouse, 202611, system_clock)).sent == 0


def test_first_number_of_an_epoch_holds_for_all_workers(warehouse: Warehouse) -> None:
    note_in_warehouse(warehouse, 0, 2)
    note_in_warehouse(warehouse, 0, 2)
    with pytest.raises(LogMismatch, match="Set FLATTR_LOG_PARTITIONS=2"):
        note_in_warehouse(warehouse, 0, 4)
    with pytest.raises(
        LogMismatch, match="epoch 1 would begin with 4: members would leave what is known of them behind"
    ):
        note_in_warehouse(warehouse, 1, 4)
    note_in_warehouse(warehouse, 1, 2)
    with pytest.raises(LogMismatch, match="counts log epoch 1, and this is set to 0: set FLATTR_LOG_EPOCH=1"):
        note_in_warehouse(warehouse, 0, 2)
    assert warehouse.rows("SELECT epoch, partitions FROM log_partitions ORDER BY epoch") == [(0, 2), (1, 2)]


def test_note_that_nobody_can_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "partitions").write_text("two")
    assert noted_partitions(tmp_path, "clicks") == 0
    note_partitions(tmp_path, "clicks", 2)
    assert noted_partitions(tmp_path, "clicks") == 2
    assert noted_partitions(tmp_path / "none", "clicks") == 0
    # As versions before this one wrote it.
    (tmp_path / "partitions").write_text("2\n")
    assert noted_partitions(tmp_path, "clicks") == 2
