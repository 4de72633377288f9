"""Where the log of clicks ends: the port to the log, which the gate of a month's close asks once.

The log is Kafka's; a record bears the stamp of the producer that sent it, and its partition's order is not that of
the stamps: an ingest whose clock is fast stamps past the cut-off before another has sent its last clicks. So a
partition is drained when it is counted to the end that it had when grace and settling time were over. That no
record of the month comes after it is the topic's doing: it refuses stamps that lie too far back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from ingest.contract.times import AHEAD_MAX_MS
from ingest.runtime.kafka_settings import BEFORE_MAX, SettingsUntold, TopicSetting, topic_settings
from warehouse.payout.errors import PayoutRefused

_UNBOUNDED: Final = (
    "Where the clock is shifted or the broker cannot bound stamps, set FLATTR_CLOSE_STAMPS_BOUNDED=false."
)


class LogEnds(Protocol):
    """What the gate asks of the log."""

    def __call__(self) -> Mapping[int, int]:
        """By partition, one past the offset of its last record. All partitions are named."""
        ...


class KafkaLogEnds:
    """The topic of clicks on a broker. ``client`` are further arguments of the Kafka client (TLS, SASL).

    ``settle_ms`` is how long after the grace the gate asks: the topic has to refuse stamps that lie further back.
    None believes that without looking: the clock is shifted, or the broker is of the kind that bounds nothing.
    """

    def __init__(
        self, broker: str, topic: str, client: Mapping[str, Any] | None = None, *, settle_ms: int | None
    ) -> None:
        self._broker = broker
        self._topic = topic
        self._client = dict(client or {})
        self._settle_ms = settle_ms

    def __call__(self) -> Mapping[int, int]:
        """Ask the broker now.

        Raises ``PayoutRefused`` without the topic or without bounds of its stamps, and aiokafka's errors without a
        broker.
        """
        return asyncio.run(self.ask())

    async def ask(self) -> dict[int, int]:
        """Do the same from an event loop."""
        partitions = await self._partitions()
        consumer = AIOKafkaConsumer(bootstrap_servers=self._broker, enable_auto_commit=False, **self._client)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(partitions)
        finally:
            await consumer.stop()
        return {partition.partition: end for partition, end in ends.items()}

    async def _partitions(self) -> list[TopicPartition]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._broker, **self._client)
        await admin.start()
        try:
            if self._topic not in await admin.list_topics():
                raise PayoutRefused(f"There is no topic {self._topic!r} on {self._broker}: name the topic of clicks.")
            (described,) = await admin.describe_topics([self._topic])
            if self._settle_ms is not None:
                await self._check_stamps(admin, self._settle_ms)
        finally:
            await admin.close()
        numbers = sorted(partition["partition"] for partition in described["partitions"])
        if not numbers:
            raise PayoutRefused(
                f"{self._broker} names no partition of {self._topic!r}: try again when it has a leader."
            )
        return [TopicPartition(self._topic, number) for number in numbers]

    async def _check_stamps(self, admin: AIOKafkaAdminClient, settle_ms: int) -> None:
        try:
            found = await topic_settings(admin, self._topic)
        except SettingsUntold as error:
            raise PayoutRefused(
                f"{self._broker} does not say how old a record's stamp may be on {self._topic!r}: {error}. "
                f"`flattr topics allow` gives the right to ask. {_UNBOUNDED}"
            ) from error
        check_stamps(self._topic, found, settle_ms)


def check_stamps(topic: str, settings: Mapping[str, TopicSetting], settle_ms: int) -> None:
    """Raise ``PayoutRefused`` when a record that comes after the settling time may bear a stamp of the month."""
    kind = settings.get("message.timestamp.type")
    if kind is not None and kind.value == "LogAppendTime":
        before_ms = 0
    elif BEFORE_MAX in settings:
        before_ms = int(settings[BEFORE_MAX].value)
    else:
        raise PayoutRefused(
            f"The broker cannot bound the stamps of {topic!r}: it wants Kafka 3.6 or newer. {_UNBOUNDED}"
        )
    if before_ms + AHEAD_MAX_MS > settle_ms:
        raise PayoutRefused(
            f"The topic {topic!r} takes records stamped {before_ms / 1000:.0f} s ago, machines' clocks may differ by "
            f"{AHEAD_MAX_MS // 1000} s, and FLATTR_CLOSE_SETTLE_S is {settle_ms // 1000}: a record could come into the "
            f"month when it is closed. Run `flattr topics create`, which sets {BEFORE_MAX}, or wait longer. "
            f"{_UNBOUNDED}"
        )
