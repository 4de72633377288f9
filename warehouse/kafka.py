"""How a Kafka client is told to speak TLS and SASL: the one place that turns settings into its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from aiokafka.helpers import create_ssl_context
from pydantic import SecretStr


class BrokerSecurity(Protocol):
    """The settings FLATTR_BROKER_SECURITY and those beside it."""

    @property
    def broker_security(self) -> str: ...  # noqa: D102 - the settings describe them
    @property
    def broker_ca_file(self) -> str | Path | None: ...  # noqa: D102 - the same
    @property
    def broker_sasl_mechanism(self) -> str: ...  # noqa: D102 - the same
    @property
    def broker_sasl_username(self) -> str | None: ...  # noqa: D102 - the same
    @property
    def broker_sasl_password(self) -> SecretStr | None: ...  # noqa: D102 - the same


def client_options(settings: BrokerSecurity) -> dict[str, Any]:
    """Arguments for any client of aiokafka. The broker's certificate is checked, its name too."""
    client: dict[str, Any] = {"security_protocol": settings.broker_security}
    if settings.broker_security.endswith("SSL"):
        client["ssl_context"] = create_ssl_context(cafile=settings.broker_ca_file and str(settings.broker_ca_file))
    if settings.broker_security.startswith("SASL"):
        password = settings.broker_sasl_password
        client["sasl_mechanism"] = settings.broker_sasl_mechanism
        client["sasl_plain_username"] = settings.broker_sasl_username
        client["sasl_plain_password"] = password.get_secret_value() if password else None
    return client
