"""How to reach Kafka: the settings that every service shares, and the client arguments made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from ingest.runtime.base_settings import Settings
from ingest.runtime.host_port import host_port
from ingest.runtime.setting_error import SettingError

_PORT: Final = 9092
#: What Kafka takes as a topic's name.
_Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


def _addresses(text: str) -> str:
    try:
        for address in text.split(","):
            host_port(address.strip(), _PORT)
    except ValueError as error:
        raise ValueError(f"{error}: it must be addresses such as kafka-1:9092,kafka-2:9092") from None
    return text


class BrokerSettings(Settings):
    """The broker and its topics: read from the environment, frozen, with the same names in every service."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_", populate_by_name=True)

    broker: Annotated[str, AfterValidator(_addresses)] = Field(
        default="127.0.0.1:9092",
        validation_alias="FLATTR_BROKER",
        description="Addresses of Kafka brokers, host:port[,host:port].",
    )
    broker_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        validation_alias="FLATTR_BROKER_SECURITY",
        description="Security protocol of the broker; use SSL or SASL_SSL across any network you do not own.",
    )
    broker_ca_file: Path | None = Field(
        default=None,
        validation_alias="FLATTR_BROKER_CA_FILE",
        description="CA certificate (PEM) that signed the broker's certificate. Unset: the system's CAs.",
    )
    broker_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512",
        validation_alias="FLATTR_BROKER_SASL_MECHANISM",
        description="SASL mechanism; SCRAM never sends the password itself.",
    )
    broker_sasl_username: str | None = Field(
        default=None, validation_alias="FLATTR_BROKER_SASL_USERNAME", description="User name; required with SASL."
    )
    broker_sasl_password: SecretStr | None = Field(
        default=None,
        validation_alias="FLATTR_BROKER_SASL_PASSWORD",
        description="Password; required with SASL, masked in logs.",
    )
    topic_clicks: _Topic = Field(
        default="clicks", validation_alias="FLATTR_TOPIC_CLICKS", description="Topic for blocks of clicks."
    )
    log_partitions: int = Field(
        default=0,
        ge=0,
        validation_alias="FLATTR_LOG_PARTITIONS",
        description="How many partitions of the clicks topic are in use, the same for ingest and streams; 0: all that "
        "it has. A member's clicks must stay in one partition, so both refuse another number than the log began with. "
        "Set it if somebody gave the topic more: those stay empty.",
    )
    topic_rejected: _Topic = Field(
        default="rejected", validation_alias="FLATTR_TOPIC_REJECTED", description="Topic for refused input."
    )

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        if self.topic_clicks == self.topic_rejected:
            raise ValueError("FLATTR_TOPIC_CLICKS and FLATTR_TOPIC_REJECTED are one topic: refused input is no click")
        return self

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.broker_security.startswith("SASL") and not (self.broker_sasl_username and self.broker_sasl_password):
            raise ValueError(
                f"FLATTR_BROKER_SECURITY={self.broker_security} needs "
                "FLATTR_BROKER_SASL_USERNAME and FLATTR_BROKER_SASL_PASSWORD"
            )
        return self


def client_security(settings: BrokerSettings) -> dict[str, Any]:
    """TLS and SASL arguments for any aiokafka client. The broker's certificate and host name are verified.

    Raises ``SettingError`` for a CA file that cannot be read.
    """
    client: dict[str, Any] = {"security_protocol": settings.broker_security}
    if settings.broker_security.endswith("SSL"):
        from aiokafka.helpers import create_ssl_context  # every command reads the settings, few speak to Kafka

        file = settings.broker_ca_file
        try:
            client["ssl_context"] = create_ssl_context(cafile=file and str(file))
        except OSError as error:
            raise SettingError(f"FLATTR_BROKER_CA_FILE: {file} is no CA certificate (PEM): {error.strerror}") from error
    if settings.broker_security.startswith("SASL"):
        password = settings.broker_sasl_password
        client["sasl_mechanism"] = settings.broker_sasl_mechanism
        client["sasl_plain_username"] = settings.broker_sasl_username
        client["sasl_plain_password"] = password.get_secret_value() if password else None
    return client
