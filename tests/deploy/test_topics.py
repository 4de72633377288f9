from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from annotated_types import Le
from pydantic.fields import FieldInfo

from deploy.provision.closing import connected
from deploy.provision.topic_days import TopicSettings
from deploy.provision.topics import (
    DAY_MS,
    TopicError,
    TopicPlan,
    bring_to_plan,
    create_topics,
    plans_of,
    rejected_plan,
    retention_days,
)
from deploy.stack.embedded import HOST, EmbeddedBroker, ServiceProcess
from ingest.contract.rejection import Rejection, encode_rejection
from ingest.settings import IngestSettings


async def test_missing_topics_are_made_once(broker: ServiceProcess, topic: str) -> None:
    plans = [TopicPlan(topic, 4), TopicPlan(f"{topic}-rejected", 1)]
    assert await create_topics(broker.address, plans) == [topic, f"{topic}-rejected"]
    assert await create_topics(broker.address, plans) == []


async def test_topic_with_another_number_of_partitions_is_refused(broker: ServiceProcess, topic: str) -> None:
    await create_topics(broker.address, [TopicPlan(topic, 4)])
    with pytest.raises(TopicError, match="has 4 partitions, not 5"):
        await create_topics(broker.address, [TopicPlan(topic, 5)])


async def test_topic_of_the_refused_is_short_lived_and_bounded(broker: ServiceProcess, topic: str) -> None:
    plan = rejected_plan(topic)
    assert await create_topics(broker.address, [plan]) == [topic]
    assert int(plan.settings["retention.ms"]) <= 14 * DAY_MS
    assert 0 < int(plan.settings["retention.bytes"]) <= 2_000_000_000
    # What ingest may send of the refused is below what the topic takes.
    raw = b"\xff" * max_of(IngestSettings.model_fields["rejected_raw_max_bytes"])
    longest = encode_rejection(
        Rejection("field_unknown", "d" * 300, 2**42, raw, 999, "f" * 300, "m" * 64, "s" * 64, cut=True)
    )
    assert len(longest) + 1000 < int(plan.settings["max.message.bytes"])
    assert TopicPlan(topic, 4).settings["retention.bytes"] == "-1"


async def test_retention_that_was_chosen_reaches_a_topic_that_is_there_and_is_told(
    kafka: ServiceProcess, topic: str
) -> None:
    plan = TopicPlan(topic, 1)
    await create_topics(kafka.address, [plan])
    assert await retention_days(kafka.address, topic) == 100
    (chosen, _) = plans_of(TopicSettings(topic_clicks_days=200), plan, rejected_plan(f"{topic}-rejected"))
    assert [change.after for change in await bring_to_plan(kafka.address, [chosen])] == [str(200 * DAY_MS)]
    assert await retention_days(kafka.address, topic) == 200
    await bring_to_plan(kafka.address, [replace(chosen, retention_ms=-1)])
    assert await retention_days(kafka.address, topic) == 0


def max_of(field: FieldInfo) -> int:
    return next(int(rule.le) for rule in field.metadata if isinstance(rule, Le) and isinstance(rule.le, int))


def test_a_broker_that_hangs_up_once_is_asked_again(embedded_broker: EmbeddedBroker) -> None:
    asyncio.run(_asked_twice(embedded_broker.port))


async def _asked_twice(port: int) -> None:
    calls = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        if len(calls) == 1:
            writer.close()
            return
        there = await asyncio.open_connection(HOST, port)
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    async with (
        await asyncio.start_server(answer, HOST, 0) as server,
        connected(f"{HOST}:{server.sockets[0].getsockname()[1]}") as admin,
    ):
        assert await admin.list_topics() is not None
    assert len(calls) >= 2
