"""Where Kafka is and how to get in: the settings that every service shares, and what a client makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, for_code
from aiokafka.helpers import create_ssl_context
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: How long before the broker's time a record may be stamped, in ms: a setting of the topic.
BEFORE_MAX: Final = "message.timestamp.before.max.ms"
#: Kafka's number for "set on the topic itself".
_OWN: Final = 1


class BrokerSettings(BaseSettings):
    """The broker and its topics. Read from the environment, frozen; the names are the same in every service."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_", frozen=True, extra="ignore", populate_by_name=True)

    broker: str = Field(
        default="127.0.0.1:9092",
        validation_alias="FLATTR_BROKER",
        description="Kafka's addresses, host:port[,host:port].",
    )
    broker_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        validation_alias="FLATTR_BROKER_SECURITY",
        description="How to talk to the broker; anything but a machine of your own wants SSL or SASL_SSL.",
    )
    broker_ca_file: Path | None = Field(
        default=None,
        validation_alias="FLATTR_BROKER_CA_FILE",
        description="Certificate authority that signed the broker's certificate (PEM); unset: the system's.",
    )
    broker_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512",
        validation_alias="FLATTR_BROKER_SASL_MECHANISM",
        description="SCRAM never sends the password itself.",
    )
    broker_sasl_username: str | None = Field(
        default=None, validation_alias="FLATTR_BROKER_SASL_USERNAME", description="Needed with SASL."
    )
    broker_sasl_password: SecretStr | None = Field(
        default=None, validation_alias="FLATTR_BROKER_SASL_PASSWORD", description="Needed with SASL; masked in logs."
    )
    topic_clicks: str = Field(
        default="clicks", validation_alias="FLATTR_TOPIC_CLICKS", description="Topic of blocks of clicks."
    )
    topic_rejected: str = Field(
        default="rejected", validation_alias="FLATTR_TOPIC_REJECTED", description="Topic of what was refused."
    )

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.broker_security.startswith("SASL") and not (self.broker_sasl_username and self.broker_sasl_password):
            raise ValueError(
                f"FLATTR_BROKER_SECURITY={self.broker_security} needs "
                "FLATTR_BROKER_SASL_USERNAME and FLATTR_BROKER_SASL_PASSWORD"
            )
        return self


def client_security(settings: BrokerSettings) -> dict[str, Any]:
    """TLS and SASL as arguments of any client of aiokafka. The broker's certificate is checked, its name too."""
    client: dict[str, Any] = {"security_protocol": settings.broker_security}
    if settings.broker_security.endswith("SSL"):
        client["ssl_context"] = create_ssl_context(cafile=settings.broker_ca_file and str(settings.broker_ca_file))
    if settings.broker_security.startswith("SASL"):
        password = settings.broker_sasl_password
        client["sasl_mechanism"] = settings.broker_sasl_mechanism
        client["sasl_plain_username"] = settings.broker_sasl_username
        client["sasl_plain_password"] = password.get_secret_value() if password else None
    return client


class SettingsUntold(Exception):
    """The broker does not say how a topic is set."""


class TopicSetting(NamedTuple):
    """A setting that is in force, and whether it is the topic's own."""

    value: str
    own: bool


async def topic_settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, TopicSetting]:
    """A topic's settings by name. Raises ``SettingsUntold``: no right to see them, or a broker that has none."""
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except (IncompatibleBrokerVersion, KafkaConnectionError) as error:
        raise SettingsUntold(f"the broker does not know the question ({type(error).__name__})") from error
    ((code, message, _, _, entries),) = answer.resources
    if code:
        raise SettingsUntold(f"{for_code(code).__name__}: {message or topic}")
    return {name: TopicSetting(value, source == _OWN) for name, value, _, source, *_ in entries}
