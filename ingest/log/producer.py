"""The adapter to Kafka: starts producers, gives them up, translates their errors."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError

from ingest.runtime.kafka_settings import client_security
from ingest.settings import IngestSettings

#: A record's headers, by name.
RecordHeaders = list[tuple[str, bytes]]
_START_TIMEOUT_S = 10
_STOP_TIMEOUT_S = 1
_log = structlog.get_logger(__name__)


class BrokerUnavailable(Exception):
    """The broker cannot be reached or does not answer in time: try again later."""


class StampRefused(BrokerUnavailable):
    """The broker's time and ours are too far apart for it to take what we stamp: somebody has to set a clock."""


class TopicMissing(RuntimeError):
    """The broker is there and the topic is not: somebody has to make it."""


class Producer:
    """One aiokafka producer from start to stop; a failed one is thrown away, never repaired."""

    def __init__(self, settings: IngestSettings) -> None:
        self._topics = (settings.topic_clicks, settings.topic_rejected)
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=settings.broker,
            **client_security(settings),
            acks="all",
            enable_idempotence=settings.idempotence,
            linger_ms=0,
            max_request_size=2 * 1024 * 1024,
            request_timeout_ms=round(settings.produce_timeout_s * 1000),
            retry_backoff_ms=50,
        )
        self.partitions = 0

    async def start(self) -> None:
        """Connect and learn the topics. Raises ``BrokerUnavailable`` or ``TopicMissing``; is stopped then."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._kafka.start()
                cluster = await self._kafka.client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.stop()
            raise BrokerUnavailable(f"no broker: {error}") from error
        except BaseException:
            # Cancelled, by a drain: what was opened is closed all the same.
            await self.stop()
            raise
        missing = [topic for topic in self._topics if not cluster.partitions_for_topic(topic)]
        if missing:
            await self.stop()
            raise TopicMissing(f"no topic {' and no topic '.join(missing)} on the broker: `flattr topics create`")
        self.partitions = len(cluster.partitions_for_topic(self._topics[0]))

    async def send(  # noqa: PLR0913 - what a record has, named
        self,
        topic: str,
        value: bytes,
        *,
        partition: int,
        timestamp_ms: int,
        timeout_s: float,
        headers: RecordHeaders | None = None,
    ) -> int:
        """Send one record and return its offset once all replicas have it. Raises ``BrokerUnavailable``.

        After a raise nobody knows whether the record will still arrive; after a ``StampRefused`` it will not. Either
        way this producer is at its end: an idempotent one counts a record that was refused, and the broker does not.
        """
        try:
            async with asyncio.timeout(timeout_s):
                acknowledged = await self._kafka.send(
                    topic, value, partition=partition, timestamp_ms=timestamp_ms, headers=headers
                )
                offset: int = (await acknowledged).offset
        except InvalidTimestampError as error:
            raise StampRefused("the broker refuses our stamp: our clock or its own is wrong") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"not acknowledged: {error!r}") from error
        return offset

    async def stop(self) -> None:
        """Flush for a moment, then let go: what is still under way has its answer already, a refusal."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._kafka.stop(), _STOP_TIMEOUT_S)
        # aiokafka's stop waits for a flush that a dead broker never ends, and then closes nothing.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._kafka.client.close(), _STOP_TIMEOUT_S)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._kafka._sender.close(), _STOP_TIMEOUT_S)  # noqa: SLF001 - has no public way
