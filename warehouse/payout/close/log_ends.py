"""Where the log of clicks ends: the gate of a month's close reads it once.

A Kafka record carries its producer's stamp, and a partition is not ordered by stamps: an ingest with a fast clock
stamps past the cut-off before another has sent its last clicks. So a partition is drained when it is counted to the
end its log had when grace and settling time were over. No record of the month can arrive after that, because the
topic refuses stamps that are too old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from ingest.contract.times import AHEAD_MAX_MS
from ingest.runtime.topic import BEFORE_MAX, SettingsUntold, TopicSetting, topic_settings
from warehouse.payout.errors import PayoutRefused

_UNBOUNDED: Final = "If the clock is shifted or the broker cannot limit stamps, set FLATTR_CLOSE_STAMPS_BOUNDED=false."


class LogEnds(Protocol):
    """What the gate needs of the log."""

    def __call__(self) -> Mapping[int, int]:
        """For every partition, the offset after its last record."""
        ...


class KafkaLogEnds:
    """The topic of clicks on a broker. ``client`` holds further arguments of the Kafka client (TLS, SASL).

    ``settle_ms`` is how long after the grace the gate asks; the topic must refuse stamps older than that. None skips
    this check, for a shifted clock or a broker that cannot limit stamps.
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

        Raises ``PayoutRefused`` if the topic is missing or does not limit stamps, and aiokafka's errors if the broker
        does not answer.
        """
        return asyncio.run(self.ask())

    async def ask(self) -> dict[int, int]:
        """The same, from an event loop."""
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
                raise PayoutRefused(
                    f"{self._broker} has no topic {self._topic!r}: set FLATTR_TOPIC_CLICKS to the topic of clicks."
                )
            (described,) = await admin.describe_topics([self._topic])
            if self._settle_ms is not None:
                await self._check_stamps(admin, self._settle_ms)
        finally:
            await admin.close()
        numbers = sorted(partition["partition"] for partition in described["partitions"])
        if not numbers:
            raise PayoutRefused(
                f"{self._broker} lists no partition of {self._topic!r}: try again when its partitions have leaders."
            )
        return [TopicPartition(self._topic, number) for number in numbers]

    async def _check_stamps(self, admin: AIOKafkaAdminClient, settle_ms: int) -> None:
        try:
            found = await topic_settings(admin, self._topic)
        except SettingsUntold as error:
            raise PayoutRefused(
                f"{self._broker} does not say how old a record's stamp may be on {self._topic!r}: {error}. "
                f"Grant the right to ask with `flattr topics allow`. {_UNBOUNDED}"
            ) from error
        check_stamps(self._topic, found, settle_ms)


def check_stamps(topic: str, settings: Mapping[str, TopicSetting], settle_ms: int) -> None:
    """Raise ``PayoutRefused`` if a record that arrives after the settling time could be stamped within the month."""
    kind = settings.get("message.timestamp.type")
    if kind is not None and kind.value == "LogAppendTime":
        before_ms = 0
    elif BEFORE_MAX in settings:
        before_ms = int(settings[BEFORE_MAX].value)
    else:
        raise PayoutRefused(
            f"The broker cannot limit the stamps of {topic!r}: that needs Kafka 3.6 or newer. {_UNBOUNDED}"
        )
    if before_ms + AHEAD_MAX_MS > settle_ms:
        raise PayoutRefused(
            f"The topic {topic!r} accepts records stamped {before_ms / 1000:.0f} s ago and machines' clocks may differ "
            f"by {AHEAD_MAX_MS // 1000} s, but FLATTR_CLOSE_SETTLE_S is only {settle_ms // 1000}: a record could enter "
            f"the month after it is closed. Run `flattr topics create`, which sets {BEFORE_MAX}, or raise "
            f"FLATTR_CLOSE_SETTLE_S. {_UNBOUNDED}"
        )
