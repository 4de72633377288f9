"""Kafka access rights: least privilege for each service, for a broker that denies everything else.

aiokafka's admin client has the messages for this, but no methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest

# Codes of Kafka's protocol.
TOPIC, GROUP = 2, 3
_LITERAL: Final = 3
_ALLOW: Final = 3
OPERATIONS: Final = {"Read": 3, "Write": 4, "DescribeConfigs": 10}


class AclError(RuntimeError):
    """The broker refused an access right."""


@dataclass(frozen=True)
class Right:
    """A Kafka user may perform an operation on a topic or group."""

    user: str
    operation: str
    kind: int
    name: str


def rights(clicks: str, rejected: str, group: str) -> list[Right]:
    """All rights. In Kafka, Write implies Describe, and IdempotentWrite on the cluster."""
    return [
        Right("ingest", "Write", TOPIC, clicks),
        Right("ingest", "Write", TOPIC, rejected),
        Right("streams", "Read", TOPIC, clicks),
        Right("streams", "Read", TOPIC, rejected),
        Right("streams", "Read", GROUP, group),
        # The close reads where the log ends.
        Right("finance", "Read", TOPIC, clicks),
        # The close checks that the topic refuses old timestamps.
        Right("finance", "DescribeConfigs", TOPIC, clicks),
        Right("erasure", "Read", TOPIC, clicks),
        # An erasure stands on its list for as long as the topic has the member's clicks.
        Right("erasure", "DescribeConfigs", TOPIC, clicks),
        # Where the log ends, and a sample of it; the page /verify does the same.
        Right("verify", "Read", TOPIC, clicks),
        Right("api", "Read", TOPIC, clicks),
        Right("replay", "Read", TOPIC, clicks),
        Right("subscriptions", "Write", TOPIC, clicks),
    ]


async def allow(broker: str, granted: list[Right], client: Mapping[str, Any] | None = None) -> None:
    """Grant the rights; existing ones are unaffected. Raises ``AclError``.

    ``client`` are further arguments of the Kafka client (TLS, SASL), which must be a super user's.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
    await admin.start()
    try:
        for right in granted:
            await _allow_one(admin, right)
    finally:
        await admin.close()


async def _allow_one(admin: AIOKafkaAdminClient, right: Right) -> None:
    request = CreateAclsRequest(
        right.kind, right.name, _LITERAL, f"User:{right.user}", "*", OPERATIONS[right.operation], _ALLOW
    )
    answer = await admin._send_to_controller(request)  # noqa: SLF001 - the admin client has no method for ACLs
    for code, message in answer.creation_responses:
        if code:
            reason = message or for_code(code).__name__
            raise AclError(f"the broker refused to grant {right.user} {right.operation} on {right.name!r}: {reason}")
