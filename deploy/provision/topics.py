"""Creates the pipeline's topics; checks existing ones, and sets the bounds on their records' timestamps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, TopicAlreadyExistsError, for_code

from deploy.provision.topic_days import TopicSettings
from ingest.contract.times import AHEAD_MAX_MS
from ingest.runtime.topic import BEFORE_MAX, SettingsUntold, topic_settings

DAY_MS: Final = 24 * 60 * 60 * 1000
ANY_TIME: Final = (1 << 63) - 1
#: A block is stamped when it is sent and given up after seconds; the rest allows for clock differences. The close's
#: settling time must be longer.
BEHIND_MAX_MS: Final = 60_000
VISIBLE_TRIES: Final = 100
VISIBLE_PAUSE_S: Final = 0.1


class TopicError(RuntimeError):
    """A topic exists, but not as the pipeline needs it."""


@dataclass(frozen=True)
class TopicPlan:
    """The planned configuration of a topic.

    ``retention_ms`` must outlast a month, its grace and an audit's replay; -1 retains records for ever.
    ``ahead_max_ms`` and ``behind_max_ms`` bound how far a record's timestamp may be from the broker's time. So a
    producer with a wrong clock is refused and retains its clicks, and no record that arrives after a month's close has
    read the log's end can have a timestamp in that month. ANY_TIME is for a stack on a shifted clock.
    """

    name: str
    partitions: int
    replication: int = 1
    retention_ms: int = 100 * DAY_MS
    #: Whether somebody chose it, so that an existing topic is brought to it, too.
    retention_chosen: bool = False
    ahead_max_ms: int = AHEAD_MAX_MS
    behind_max_ms: int = BEHIND_MAX_MS
    #: -1 for no bound. ``clicks`` must never be deleted by size: it is the source of the books.
    retention_bytes: int = -1
    record_max_bytes: int = 1_048_588

    def unbounded(self) -> TopicPlan:
        """The same without bounds on timestamps, for a stack on another clock than the broker's."""
        return replace(self, ahead_max_ms=ANY_TIME, behind_max_ms=ANY_TIME)

    @property
    def stamps(self) -> dict[str, str]:
        """Kafka's settings for timestamps: they are the producer's, as the rule for late clicks needs."""
        return {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(self.ahead_max_ms),
            BEFORE_MAX: str(self.behind_max_ms),
        }

    @property
    def settings(self) -> dict[str, str]:
        """All of Kafka's settings for a new topic."""
        in_sync = max(1, self.replication - 1)
        return {
            **self.stamps,
            "retention.ms": str(self.retention_ms),
            "retention.bytes": str(self.retention_bytes),
            "max.message.bytes": str(self.record_max_bytes),
            "min.insync.replicas": str(in_sync),
        }


def rejected_plan(name: str, replication: int = 1) -> TopicPlan:
    """The topic of refused input: retained for as long as the streams may be down, and bounded in size.

    A record has at most FLATTR_INGEST_REJECTED_RAW_MAX_BYTES of input; the warehouse retains it longer.
    """
    return TopicPlan(
        name,
        1,
        replication,
        retention_ms=14 * DAY_MS,
        retention_bytes=2_000_000_000,
        record_max_bytes=256 * 1024,
    )


def plans_of(settings: TopicSettings, clicks: TopicPlan, rejected: TopicPlan) -> list[TopicPlan]:
    """The plans, with the retention that is set."""
    days = {"topic_clicks_days": clicks, "topic_rejected_days": rejected}
    return [
        replace(plan, retention_ms=getattr(settings, name) * DAY_MS, retention_chosen=name in settings.model_fields_set)
        for name, plan in days.items()
    ]


@dataclass(frozen=True)
class Change:
    """A setting that was changed to match the plan."""

    topic: str
    setting: str
    before: str
    after: str


async def create_topics(broker: str, plans: list[TopicPlan], client: Mapping[str, object] | None = None) -> list[str]:
    """Create missing topics and return their names, once the broker shows every topic as planned.

    ``client`` are further arguments of the Kafka client (TLS, SASL). Raises ``TopicError`` when a topic exists with
    another number of partitions, since members would move to other partitions without their state.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [plan for plan in plans if plan.name not in there]
        made = await _create(admin, missing) if missing else []
        for plan in plans:
            await wait_for_partitions(admin, plan.name, plan.partitions)
    finally:
        await admin.close()
    return made


async def bring_to_plan(
    broker: str, plans: list[TopicPlan], client: Mapping[str, object] | None = None
) -> list[Change]:
    """Set the bounds on timestamps of existing topics, and a retention that was chosen; returns what was changed.

    Other settings are left alone: an operator may have changed them in Kafka. Raises ``TopicError`` when the
    broker refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
    await admin.start()
    try:
        return [change for plan in plans for change in await _bring_to_plan(admin, plan)]
    finally:
        await admin.close()


async def retention_days(broker: str, topic: str, client: Mapping[str, object] | None = None) -> int | None:
    """How many days the topic retains records, rounded up: 0 for ever, None if the broker does not tell."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
    await admin.start()
    try:
        found = await topic_settings(admin, topic)
    except SettingsUntold:
        return None
    finally:
        await admin.close()
    return max(0, math.ceil(int(found["retention.ms"].value) / DAY_MS))


async def _bring_to_plan(admin: AIOKafkaAdminClient, plan: TopicPlan) -> list[Change]:
    try:
        found = await topic_settings(admin, plan.name)
    except SettingsUntold as error:
        raise TopicError(f"cannot read the settings of topic {plan.name!r}: {error}") from error
    wanted_values = plan.stamps | ({"retention.ms": str(plan.retention_ms)} if plan.retention_chosen else {})
    changes = [
        Change(plan.name, name, found[name].value, value)
        for name, value in wanted_values.items()
        if name in found and found[name].value != value
    ]
    if changes:
        await set_settings(admin, plan.name, {change.setting: change.after for change in changes})
    return changes


async def own_settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """What is set on the topic itself. Raises ``TopicError``."""
    try:
        found = await topic_settings(admin, topic)
    except SettingsUntold as error:
        raise TopicError(f"cannot read the settings of topic {topic!r}: {error}") from error
    return {name: setting.value for name, setting in found.items() if setting.own}


async def set_settings(admin: AIOKafkaAdminClient, topic: str, changes: Mapping[str, str]) -> None:
    """Change some settings of a topic. Raises ``TopicError`` when the broker refuses or cannot."""
    # Kafka replaces all of a topic's own settings at once: those left out would fall back to the broker's.
    wanted = await own_settings(admin, topic) | dict(changes)
    try:
        (answer,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
    except IncompatibleBrokerVersion:
        raise TopicError(f"the broker cannot change the settings of topic {topic!r}: recreate the topic") from None
    ((code, message, *_),) = answer.resources
    if code:
        raise TopicError(f"the broker refused settings of topic {topic!r}: {message or for_code(code).__name__}")


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


async def wait_for_partitions(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """Return when the broker shows the topic. Raises ``TopicError`` if it has another number of partitions."""
    found = 0
    # A broker shows a new topic only a moment after it has confirmed its creation.
    for _ in range(VISIBLE_TRIES):
        (description,) = await admin.describe_topics([topic])
        found = len(description["partitions"])
        if found:
            break
        await asyncio.sleep(VISIBLE_PAUSE_S)
    if found != partitions:
        raise TopicError(
            f"topic {topic!r} has {found} partitions, not {partitions}: changing that would move members to "
            f"other partitions, without what is known of them. Use the existing number (--partitions {found}); "
            "`flattr topics grow` moves the log to a topic with more."
        )
