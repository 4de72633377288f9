"""Make the topics that the pipeline needs, and check those that are there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

DAY_MS = 24 * 60 * 60 * 1000


class TopicError(RuntimeError):
    """A topic is there, but not as the pipeline needs it."""


@dataclass(frozen=True)
class TopicPlan:
    """How a topic is to be.

    ``retention_ms`` has to outlast a month, its grace and an audit's replay of it; -1 keeps for ever.
    """

    name: str
    partitions: int
    replication: int = 1
    retention_ms: int = 100 * DAY_MS

    @property
    def settings(self) -> dict[str, str]:
        """Kafka's settings: the record's time is the producer's, which the late rule and the gate read."""
        in_sync = max(1, self.replication - 1)
        return {
            "message.timestamp.type": "CreateTime",
            "retention.ms": str(self.retention_ms),
            "min.insync.replicas": str(in_sync),
        }


async def create_topics(broker: str, plans: list[TopicPlan], client: Mapping[str, object] | None = None) -> list[str]:
    """Create what is missing and return its names.

    ``client`` are further arguments of the Kafka client (TLS, SASL). Raises ``TopicError`` when a topic
    exists with another number of partitions: members would move, and their state with them.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [plan for plan in plans if plan.name not in there]
        if missing:
            await _create(admin, missing)
        for plan in plans:
            if plan.name in there:
                await _check(admin, plan)
    finally:
        await admin.close()
    return [plan.name for plan in missing]


async def _create(admin: AIOKafkaAdminClient, plans: list[TopicPlan]) -> None:
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
    for name, code, *rest in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopicError(f"the broker refused to create topic {name!r}: code {code} {rest or ''}".rstrip())


async def _check(admin: AIOKafkaAdminClient, plan: TopicPlan) -> None:
    (description,) = await admin.describe_topics([plan.name])
    found = len(description["partitions"])
    if found != plan.partitions:
        raise TopicError(
            f"topic {plan.name!r} has {found} partitions, {plan.partitions} were asked for: "
            "members would change partition in mid-month. Ask for what is there, or move when a month is closed."
        )
