"""Who may do what in Kafka: least rights by service, for a broker that allows nothing else.

aiokafka's admin client knows the messages and has no method for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest

# Kafka's numbers for what stands in its messages.
_TOPIC, _GROUP = 2, 3
_LITERAL: Final = 3
_ALLOW: Final = 3
_OPERATIONS: Final = {"Read": 3, "Write": 4, "DescribeConfigs": 10}


class AclError(RuntimeError):
    """The broker did not take a right."""


@dataclass(frozen=True)
class Right:
    """A user of Kafka may do this to that."""

    user: str
    operation: str
    kind: int
    name: str


def rights(clicks: str, rejected: str, group: str) -> list[Right]:
    """All of them. Write brings Describe, and IdempotentWrite on the cluster, as Kafka has it."""
    return [
        Right("ingest", "Write", _TOPIC, clicks),
        Right("ingest", "Write", _TOPIC, rejected),
        Right("streams", "Read", _TOPIC, clicks),
        Right("streams", "Read", _TOPIC, rejected),
        Right("streams", "Read", _GROUP, group),
        # The month's close, `flattr verify` and an erasure: where the log ends.
        Right("finance", "Read", _TOPIC, clicks),
        # The close asks whether the topic refuses old stamps.
        Right("finance", "DescribeConfigs", _TOPIC, clicks),
        Right("erasure", "Read", _TOPIC, clicks),
    ]


async def allow(broker: str, granted: list[Right], client: Mapping[str, Any] | None = None) -> None:
    """State the rights; one that is there already stays as it is. Raises ``AclError``.

    ``client`` are further arguments of the Kafka client (TLS, SASL): of a super user.
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
        right.kind, right.name, _LITERAL, f"User:{right.user}", "*", _OPERATIONS[right.operation], _ALLOW
    )
    answer = await admin._send_to_controller(request)  # noqa: SLF001 - the admin client has no method for rights
    for code, message in answer.creation_responses:
        if code:
            reason = message or for_code(code).__name__
            raise AclError(f"the broker refused {right.operation} on {right.name!r} to {right.user}: {reason}")
