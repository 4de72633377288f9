"""What the pipeline asks of any broker. The same suite runs on the embedded one and on Apache Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ServiceProcess
from streams.clicks.string_columns import StringColumn
from warehouse.storage.client import Warehouse

PARTITIONS = 4
#: Stamps of our own choosing, nowhere near now.
STAMP_STEP_MS = 60_000


@pytest.fixture
async def ready_topic(broker: ServiceProcess, topic: str) -> str:
    await create_topics(broker.address, [TopicPlan(topic, PARTITIONS).unbounded()])
    return topic


@asynccontextmanager
async def producer(broker: ServiceProcess) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(bootstrap_servers=broker.address, acks="all")
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def consumer(broker: ServiceProcess, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    client = AIOKafkaConsumer(
        *topics, bootstrap_servers=broker.address, auto_offset_reset="earliest", enable_auto_commit=False, **options
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def read(client: AIOKafkaConsumer, count: int) -> list[Any]:
    found: list[Any] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            for records in (await client.getmany(timeout_ms=500)).values():
                found += records
    return found


async def test_acknowledged_record_is_readable_at_its_offset_with_its_bytes_and_stamp(
    broker: ServiceProcess, ready_topic: str
) -> None:
    sent = [(b'{"line": %d}\n{}' % number, STAMP_STEP_MS * number) for number in range(1, 6)]
    async with producer(broker) as sender:
        receipts = [
            await sender.send_and_wait(ready_topic, block, partition=2, timestamp_ms=stamp_ms)
            for block, stamp_ms in sent
        ]
    assert [receipt.offset for receipt in receipts] == [0, 1, 2, 3, 4]
    async with consumer(broker) as reader:
        reader.assign([TopicPartition(ready_topic, 2)])
        records = await read(reader, 5)
    assert [record.offset for record in records] == [0, 1, 2, 3, 4]
    assert [(record.value, record.timestamp) for record in records] == sent


async def test_log_end_is_one_past_the_last_record(broker: ServiceProcess, ready_topic: str) -> None:
    partitions = [TopicPartition(ready_topic, number) for number in range(PARTITIONS)]
    async with producer(broker) as sender, consumer(broker) as reader:
        await sender.send_and_wait(ready_topic, b"{}", partition=1)
        await sender.send_and_wait(ready_topic, b"{}", partition=1)
        ends = await reader.end_offsets(partitions)
        beginnings = await reader.beginning_offsets(partitions)
    assert [ends[partition] for partition in partitions] == [0, 2, 0, 0]
    assert [beginnings[partition] for partition in partitions] == [0, 0, 0, 0]


async def test_key_lands_where_our_partition_function_and_the_warehouse_say(
    broker: ServiceProcess, ready_topic: str, warehouse: Warehouse
) -> None:
    members = [f"member-{number}" for number in range(25)] + ["ümlaut", "成员"]
    async with producer(broker) as sender:
        landed = [(await sender.send_and_wait(ready_topic, b"{}", key=member.encode())).partition for member in members]
    assert landed == StringColumn.of(members).partitions(PARTITIONS).tolist()
    rows = warehouse.rows(
        "SELECT arrayMap(m -> kafkaMurmurHash(m) %% %(n)s, %(members)s)", {"members": members, "n": PARTITIONS}
    )
    assert landed == list(rows[0][0])


async def test_committed_offset_outlives_the_consumer(broker: ServiceProcess, ready_topic: str) -> None:
    partition = TopicPartition(ready_topic, 0)
    async with producer(broker) as sender:
        for _ in range(3):
            await sender.send_and_wait(ready_topic, b"{}", partition=0)
    group = f"{ready_topic}-group"
    async with consumer(broker, ready_topic, group_id=group, session_timeout_ms=2000) as first:
        await read(first, 3)
        await first.commit({partition: 2})
    async with consumer(broker, ready_topic, group_id=group, session_timeout_ms=2000) as second:
        (record,) = await read(second, 1)
        assert record.offset == 2


async def test_partitions_are_shared_by_a_group_and_given_back(broker: ServiceProcess, ready_topic: str) -> None:
    options = {"group_id": f"{ready_topic}-group", "session_timeout_ms": 2000, "heartbeat_interval_ms": 500}

    async def until(first: AIOKafkaConsumer, count: int) -> None:
        async with asyncio.timeout(40):
            while len(first.assignment()) != count:
                await first.getmany(timeout_ms=100)

    async with consumer(broker, ready_topic, **options) as first:
        await until(first, PARTITIONS)
        async with consumer(broker, ready_topic, **options) as second:
            await asyncio.gather(until(first, PARTITIONS // 2), until(second, PARTITIONS // 2))
            assert first.assignment().isdisjoint(second.assignment())
        await until(first, PARTITIONS)
