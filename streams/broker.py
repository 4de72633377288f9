"""How to get into Kafka: TLS and SASL, for plain clients and for Faust."""

from __future__ import annotations

import ssl
from typing import Any

import faust
from aiokafka.helpers import create_ssl_context
from faust.types.auth import CredentialsT

from streams.settings import StreamsSettings


def client_options(settings: StreamsSettings) -> dict[str, Any]:
    """What every aiokafka client needs: address, TLS, SASL."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker,
        "security_protocol": settings.broker_security,
        "ssl_context": _context(settings),
    }
    if settings.broker_security.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.broker_sasl_mechanism,
            "sasl_plain_username": settings.broker_sasl_username,
            "sasl_plain_password": _password(settings),
        }
    return options


def credentials(settings: StreamsSettings) -> CredentialsT | None:
    """The same for Faust; None when there is nothing to show."""
    context = _context(settings)
    if settings.broker_security.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.broker_sasl_username,
            password=_password(settings),
            mechanism=settings.broker_sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _context(settings: StreamsSettings) -> ssl.SSLContext | None:
    if not settings.broker_security.endswith("SSL"):
        return None
    context: ssl.SSLContext = create_ssl_context(cafile=settings.broker_ca_file)
    return context


def _password(settings: StreamsSettings) -> str | None:
    password = settings.broker_sasl_password
    return password.get_secret_value() if password else None
