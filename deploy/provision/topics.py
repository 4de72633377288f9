"""Make the topics that the pipeline needs; check those that are there already, and bound their records' stamps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, TopicAlreadyExistsError, for_code

from ingest.contract.times import AHEAD_MAX_MS
from ingest.runtime.kafka_settings import BEFORE_MAX, SettingsUntold, topic_settings

DAY_MS: Final = 24 * 60 * 60 * 1000
ANY_TIME: Final = (1 << 63) - 1
#: A block is stamped when it is sent and given up after seconds; the rest is for machines' clocks. The close
#: waits longer than this before it asks where the log ends.
BEHIND_MAX_MS: Final = 60_000
VISIBLE_TRIES: Final = 100
VISIBLE_PAUSE_S: Final = 0.1


class TopicError(RuntimeError):
    """A topic is there, but not as the pipeline needs it."""


@dataclass(frozen=True)
class TopicPlan:
    """How a topic is to be.

    ``retention_ms`` has to outlast a month, its grace and an audit's replay of it; -1 keeps for ever.
    ``ahead_max_ms`` and ``behind_max_ms`` are how far a record's stamp may be from the broker's time: a producer
    whose clock is further off is refused, and its clicks stay with it; and none that comes when a month's close
    has asked where the log ends can bear a stamp of that month. ANY_TIME is for a stack on a shifted clock.
    """

    name: str
    partitions: int
    replication: int = 1
    retention_ms: int = 100 * DAY_MS
    ahead_max_ms: int = AHEAD_MAX_MS
    behind_max_ms: int = BEHIND_MAX_MS
    #: -1 for no bound. Of ``clicks`` nothing goes by size: it is the books.
    retention_bytes: int = -1
    record_max_bytes: int = 1_048_588

    def unbounded(self) -> TopicPlan:
        """The same for a stack whose clock is not the broker's."""
        return replace(self, ahead_max_ms=ANY_TIME, behind_max_ms=ANY_TIME)

    @property
    def stamps(self) -> dict[str, str]:
        """Kafka's settings of a record's time: it is the producer's, which the late rule reads."""
        return {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(self.ahead_max_ms),
            BEFORE_MAX: str(self.behind_max_ms),
        }

    @property
    def settings(self) -> dict[str, str]:
        """All of Kafka's settings that a new topic is made with."""
        in_sync = max(1, self.replication - 1)
        return {
            **self.stamps,
            "retention.ms": str(self.retention_ms),
            "retention.bytes": str(self.retention_bytes),
            "max.message.bytes": str(self.record_max_bytes),
            "min.insync.replicas": str(in_sync),
        }


def rejected_plan(name: str, replication: int = 1) -> TopicPlan:
    """The topic of what ingest refused: for the days that the streams may be down, and bounded in size.

    A record has at most FLATTR_INGEST_REJECTED_RAW_MAX_BYTES of input; the warehouse keeps it longer.
    """
    return TopicPlan(
        name,
        1,
        replication,
        retention_ms=14 * DAY_MS,
        retention_bytes=2_000_000_000,
        record_max_bytes=256 * 1024,
    )


@dataclass(frozen=True)
class Change:
    """What was brought to the plan."""

    topic: str
    setting: str
    before: str
    after: str


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


async def bring_to_plan(
    broker: str, plans: list[TopicPlan], client: Mapping[str, object] | None = None
) -> list[Change]:
    """Set how far off a record's stamp may be on topics that are there already; return what was changed.

    Their other settings stay: what an operator keeps longer than planned is not thrown away. Raises ``TopicError``
    when the broker refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
    await admin.start()
    try:
        return [change for plan in plans for change in await _bring_to_plan(admin, plan)]
    finally:
        await admin.close()


async def _bring_to_plan(admin: AIOKafkaAdminClient, plan: TopicPlan) -> list[Change]:
    try:
        found = await topic_settings(admin, plan.name)
    except SettingsUntold as error:
        raise TopicError(f"the settings of {plan.name!r} cannot be seen: {error}") from error
    changes = [
        Change(plan.name, name, found[name].value, value)
        for name, value in plan.stamps.items()
        if name in found and found[name].value != value
    ]
    if changes:
        # Kafka takes all of a topic's own settings at once: what is left out falls back to the broker's.
        own = {name: setting.value for name, setting in found.items() if setting.own}
        wanted = own | {change.setting: change.after for change in changes}
        try:
            (answer,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, plan.name, wanted)])
        except IncompatibleBrokerVersion:
            raise TopicError(f"the broker cannot change the settings of {plan.name!r}: make the topic anew") from None
        ((code, message, *_),) = answer.resources
        if code:
            raise TopicError(f"the broker refused settings of {plan.name!r}: {message or for_code(code).__name__}")
    return changes


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
