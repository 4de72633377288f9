"""What a topic's settings are, as the broker tells them."""

from __future__ import annotations

from typing import Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, for_code

#: A topic's setting: how far, in ms, a record's timestamp may lie before the broker's time.
BEFORE_MAX: Final = "message.timestamp.before.max.ms"
#: Kafka's code for "set on the topic itself".
_OWN: Final = 1


class SettingsUntold(Exception):
    """The broker does not reveal a topic's settings."""


class TopicSetting(NamedTuple):
    """A setting's effective value, and whether it is set on the topic itself."""

    value: str
    own: bool


async def topic_settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, TopicSetting]:
    """A topic's settings by name. Raises ``SettingsUntold`` without the right to read them, or broker support."""
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except (IncompatibleBrokerVersion, KafkaConnectionError) as error:
        raise SettingsUntold(f"the broker does not support reading settings ({type(error).__name__})") from error
    ((code, message, _, _, entries),) = answer.resources
    if code:
        raise SettingsUntold(f"{for_code(code).__name__}: {message or topic}")
    return {name: TopicSetting(value, source == _OWN) for name, value, _, source, *_ in entries}
