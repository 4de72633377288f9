"""How far each partition must be counted before a month can close: the port to the log.

The log is Kafka's; its records carry the time at which the producer stamped them. A partition
is drained for a month when every record before the first one stamped at or past the cut-off
is counted; when there is no such record, when it is counted to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from warehouse.payout.errors import PayoutRefused

_READ_MS = 5000


class LogEnds(Protocol):
    """What the gate asks of the log."""

    def __call__(self, cutoff_ms: int, /) -> Mapping[int, int]:
        """By partition, the offset of the first record that need not be counted. All partitions are named."""
        ...


class KafkaLogEnds:
    """The topic of clicks on a broker. ``client`` are further arguments of the Kafka client (TLS, SASL)."""

    def __init__(self, broker: str, topic: str, client: Mapping[str, Any] | None = None) -> None:
        self._broker = broker
        self._topic = topic
        self._client = dict(client or {})

    def __call__(self, cutoff_ms: int, /) -> Mapping[int, int]:
        """Ask the broker now. Raises ``PayoutRefused`` without the topic and aiokafka's errors without a broker."""
        return asyncio.run(self.ask(cutoff_ms))

    async def ask(self, cutoff_ms: int) -> dict[int, int]:
        """Do the same from an event loop."""
        partitions = await self._partitions()
        consumer = AIOKafkaConsumer(bootstrap_servers=self._broker, enable_auto_commit=False, **self._client)
        await consumer.start()
        try:
            # The ends first: a record appended in between is past them and, by its stamp, past the cut-off.
            ends = await consumer.end_offsets(partitions)
            later = await consumer.offsets_for_times(dict.fromkeys(partitions, cutoff_ms))
            needed = dict(ends)
            for partition in partitions:
                found = later[partition]
                if found is not None and found.offset < ends[partition]:
                    # The embedded broker answers 0 whatever it is asked: read the record before believing it.
                    stamp_ms = await _stamp_ms(consumer, partition, found.offset)
                    if stamp_ms is not None and stamp_ms >= cutoff_ms:
                        needed[partition] = found.offset
        finally:
            await consumer.stop()
        return {partition.partition: end for partition, end in needed.items()}

    async def _partitions(self) -> list[TopicPartition]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._broker, **self._client)
        await admin.start()
        try:
            if self._topic not in await admin.list_topics():
                raise PayoutRefused(f"There is no topic {self._topic!r} on {self._broker}: name the topic of clicks.")
            (described,) = await admin.describe_topics([self._topic])
        finally:
            await admin.close()
        numbers = sorted(partition["partition"] for partition in described["partitions"])
        if not numbers:
            raise PayoutRefused(
                f"{self._broker} names no partition of {self._topic!r}: try again when it has a leader."
            )
        return [TopicPartition(self._topic, number) for number in numbers]


async def _stamp_ms(consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> int | None:
    """The time stamped on the record at an offset; None when it does not come within seconds."""
    consumer.assign([partition])
    consumer.seek(partition, offset)
    batches = await consumer.getmany(timeout_ms=_READ_MS, max_records=1)
    for records in batches.values():
        return int(records[0].timestamp)
    return None
