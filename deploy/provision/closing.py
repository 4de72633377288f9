"""Closing a topic to everybody who writes, and knowing for certain where its log then ends.

A topic whose records may have no bytes at all takes none: ``max.message.bytes`` is 0. The leader of a partition looks
at a record's size before it looks at anything else, whatever ``acks`` the producer wants. It learns of the setting a
moment after the broker has confirmed it, so each leader is asked, with a record that it would refuse in any case: its
checksum is wrong. ``MESSAGE_TOO_LARGE`` means closed, ``CORRUPT_MESSAGE`` open.

Nothing is appended then any more. What was appended before and has not reached all replicas yet is not acknowledged,
and a consumer does not see it yet; so the end of the log is that of the leader, once consumers see as far.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CorruptRecordException,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    for_code,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from deploy.provision.topics import TopicError

RECORD_MAX: Final = "max.message.bytes"
_ALL: Final = -1
_TIMEOUT_MS: Final = 5_000
#: Where the checksum of a record batch stands.
_CRC: Final = slice(17, 21)
#: As whom the ends are asked for: a consumer is told how far all replicas are, somebody who debugs is told all.
_CONSUMER, _DEBUGGER = -1, -2
_LATEST: Final = -1
_LOOK_S: Final = 0.1
_PATIENCE_S: Final = 60.0
_CONNECT_S: Final = 15.0


@asynccontextmanager
async def connected(broker: str, client: Mapping[str, Any] | None = None) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of the broker, which may be busy for a moment. ``client`` are further arguments (TLS, SASL)."""
    give_up_at = time.monotonic() + _CONNECT_S
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker, **(client or {}))
        try:
            await admin.start()
            break
        except KafkaConnectionError:
            await admin.close()
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(_LOOK_S)
    try:
        yield admin
    finally:
        await admin.close()


async def wait_until_closed(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """Return when no leader of the topic takes a record any more. Raises ``TopicError`` if one goes on."""
    give_up_at = time.monotonic() + _PATIENCE_S
    for number in range(partitions):
        while (answer := await _answer_to_a_broken_record(admin, topic, number)) is not MessageSizeTooLargeError:
            if answer is not CorruptRecordException and not answer.retriable:
                raise TopicError(f"the broker does not say whether {topic!r} is closed: {answer.__name__}")
            if time.monotonic() > give_up_at:
                raise TopicError(
                    f"partition {number} of {topic!r} still takes records {_PATIENCE_S:.0f} s after {RECORD_MAX} was "
                    f"set to 0 ({answer.__name__}): the broker cannot close a topic. Run the command again, or "
                    "--abandon it."
                )
            await admin._client.force_metadata_update()  # noqa: SLF001 - as below
            await asyncio.sleep(_LOOK_S)


async def final_ends(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> list[int]:
    """Where each partition of a closed topic ends, for good. Raises ``TopicError`` while replicas are behind."""
    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        written = [await _end(admin, topic, number, _DEBUGGER) for number in range(partitions)]
        seen = [await _end(admin, topic, number, _CONSUMER) for number in range(partitions)]
        if written == seen:
            return seen
        if time.monotonic() > give_up_at:
            behind = [number for number in range(partitions) if written[number] != seen[number]]
            raise TopicError(f"replicas of {topic!r} are behind their leaders: partitions {behind}. Wait for them.")
        await asyncio.sleep(_LOOK_S)


async def members_of(admin: AIOKafkaAdminClient, group: str) -> int:
    """How many members a consumer group has."""

    async def ask() -> int:
        (answer,) = await admin.describe_consumer_groups([group])
        ((code, _, _, _, _, members, *_),) = answer.groups
        if code:
            raise for_code(code)
        return len(members)

    return await _settled(admin, ask)


async def _answer_to_a_broken_record(admin: AIOKafkaAdminClient, topic: str, number: int) -> type[KafkaError]:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 10)
    builder.append(0, round(time.time() * 1000), b"", b"", [])
    batch = builder.build()
    batch[_CRC] = bytes(each ^ 0xFF for each in batch[_CRC])
    request = ProduceRequest(None, _ALL, _TIMEOUT_MS, [(topic, [(number, bytes(batch))])])
    answer = await _asked(admin, topic, number, request)
    ((_, ((_, code, *_),)),) = answer.topics
    if not code:
        raise TopicError(f"the broker took a record with a wrong checksum into {topic!r}: it is not Apache Kafka")
    found: type[KafkaError] = for_code(code)
    return found


async def _end(admin: AIOKafkaAdminClient, topic: str, number: int, who: int) -> int:
    async def ask() -> int:
        answer = await _asked(admin, topic, number, OffsetRequest(who, 0, [(topic, [(number, _LATEST)])]))
        ((_, ((_, code, _, offset),)),) = answer.topics
        if code:
            raise for_code(code)
        return int(offset)

    return await _settled(admin, ask)


async def _settled(admin: AIOKafkaAdminClient, ask: Callable[[], Awaitable[int]]) -> int:
    """The answer, once leaders and coordinators know that they are: each begins a moment after it was chosen."""
    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > give_up_at:
                raise
        await admin._client.force_metadata_update()  # noqa: SLF001 - as below
        await asyncio.sleep(_LOOK_S)


async def _asked(admin: AIOKafkaAdminClient, topic: str, number: int, request: Request[Any]) -> Any:  # noqa: ANN401 - of the protocol
    """The answer of a partition's leader."""
    client: AIOKafkaClient = admin._client  # noqa: SLF001 - the admin client has no method for these
    client.add_topic(topic)
    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        leader = client.cluster.leader_for_partition(TopicPartition(topic, number))
        if leader not in {None, -1}:
            return await client.send(leader, request)
        if time.monotonic() > give_up_at:
            raise TopicError(f"partition {number} of {topic!r} has no leader: start its broker, then go on.")
        await client.force_metadata_update()
        await asyncio.sleep(_LOOK_S)
