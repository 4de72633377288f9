"""Make the topics that the pipeline needs, and check those that are there already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

HOUR_MS: Final = 60 * 60 * 1000
DAY_MS: Final = 24 * HOUR_MS
ANY_TIME: Final = (1 << 63) - 1
VISIBLE_TRIES: Final = 100
VISIBLE_PAUSE_S: Final = 0.1


class TopicError(RuntimeError):
    """A topic is there, but not as the pipeline needs it."""


@dataclass(frozen=True)
class TopicPlan:
    """How a topic is to be.

    ``retention_ms`` has to outlast a month, its grace and an audit's replay of it; -1 keeps for ever.
    ``ahead_max_ms`` is how far a record's time may be ahead of the broker's: a producer with a wild clock is
    refused, and its clicks stay with it. ANY_TIME is for a stack on a shifted clock.
    """

    name: str
    partitions: int
    replication: int = 1
    retention_ms: int = 100 * DAY_MS
    ahead_max_ms: int = HOUR_MS

    @property
    def settings(self) -> dict[str, str]:
        """Kafka's settings: the record's time is the producer's, which the late rule and the gate read."""
        in_sync = max(1, self.replication - 1)
        return {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(self.ahead_max_ms),
            "retention.ms": str(self.retention_ms),
            "min.insync.replicas": str(in_sync),
        }


async def create_topics(broker: str, plans: list[TopicPlan], client: Mapping[str, object] | None = None) -> list[str]:
    """Create what is missing and return its names, once the broker shows every topic as planned.

    ``client`` are further arguments of the Kafka client (TLS, SASL). Raises ``TopicError`` when a topic
    exists with another number of partitions: members would move, and their state with them.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [plan for plan in plans if plan.name not in there]
        made = await _create(admin, missing) if missing else []
        for plan in plans:
            await _check(admin, plan)
    finally:
        await admin.close()
    return made


async def _create(admin: AIOKafkaAdminClient, plans: list[TopicPlan]) -> list[str]:
    topics = [
        NewTopic(
            name=plan.name,
            num_partitions=plan.partitions,
            replication_factor=plan.replication,
            topic_configs=plan.settings,
        )
        for plan in plans
    ]
    answer = await admin.create_topics(topics)
    codes = {name: code for name, code, *_ in answer.topic_errors}
    for name, code in codes.items():
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopicError(f"the broker refused to create topic {name!r}: {for_code(code).__name__}")
    return [name for name, code in codes.items() if code == 0]


async def _check(admin: AIOKafkaAdminClient, plan: TopicPlan) -> None:
    found = 0
    # A broker answers for a new topic a moment after it has agreed to make it.
    for _ in range(VISIBLE_TRIES):
        (description,) = await admin.describe_topics([plan.name])
        found = len(description["partitions"])
        if found:
            break
        await asyncio.sleep(VISIBLE_PAUSE_S)
    if found != plan.partitions:
        raise TopicError(
            f"topic {plan.name!r} has {found} partitions, {plan.partitions} were asked for: "
            "members would change partition in mid-month. Ask for what is there, or move when a month is closed."
        )
