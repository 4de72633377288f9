"""How Faust gets into Kafka: the same TLS and SASL as every client's, in Faust's words."""

from __future__ import annotations

import faust
from faust.types.auth import CredentialsT

from ingest.runtime.kafka_settings import client_security
from streams.settings import StreamsSettings


def credentials(settings: StreamsSettings) -> CredentialsT | None:
    """What Faust shows the broker; None when there is nothing to show."""
    client = client_security(settings)
    context = client.get("ssl_context")
    if "sasl_mechanism" in client:
        return faust.SASLCredentials(
            username=client["sasl_plain_username"],
            password=client["sasl_plain_password"],
            mechanism=client["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
