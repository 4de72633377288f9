"""The adapter to Kafka: starts and stops producers, and translates their errors."""

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
    """The broker cannot be reached or did not answer in time: retry later."""


class StampRefused(BrokerUnavailable):
    """The broker refuses our timestamps, as its clock and ours differ too much: an operator must correct a clock."""


class TopicMissing(RuntimeError):
    """The broker is reachable, but the topic does not exist, or is not as it was: the message says what to do."""


class Producer:
    """One aiokafka producer; a failed one is replaced, never repaired.

    ``partitions`` is how many of them clicks are sent into. ``sent_into`` is how many it was before; 0: none known.
    """

    def __init__(self, settings: IngestSettings, sent_into: int = 0) -> None:
        self._stated, self._sent_into = settings.log_partitions, sent_into
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
        """Connect and check the topics. Raises ``BrokerUnavailable`` or ``TopicMissing``, and stops first."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._kafka.start()
                cluster = await self._kafka.client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            await self.stop()
            raise BrokerUnavailable(f"cannot connect to the broker: {error}") from error
        except BaseException:
            # Cancelled by a drain: close what was opened.
            await self.stop()
            raise
        missing = [topic for topic in self._topics if not cluster.partitions_for_topic(topic)]
        if missing:
            await self.stop()
            raise TopicMissing(f"the broker has no topic {' and no topic '.join(missing)}: run `flattr topics create`")
        try:
            self.partitions = self._in_use(len(cluster.partitions_for_topic(self._topics[0])))
        except TopicMissing:
            await self.stop()
            raise

    def _in_use(self, found: int) -> int:
        """How many partitions to use of those found. A member's clicks must stay in one."""
        if found < self._stated:
            raise TopicMissing(
                f"topic {self._topics[0]} has {found} partitions, fewer than FLATTR_LOG_PARTITIONS={self._stated}"
            )
        if not self._stated and self._sent_into not in {0, found}:
            raise TopicMissing(
                f"topic {self._topics[0]} has {found} partitions, but clicks were sent into {self._sent_into} before, "
                f"and a member's must stay in one: set FLATTR_LOG_PARTITIONS={self._sent_into} for ingest and streams, "
                f"or ={found} if this is a new log (FLATTR_LOG_EPOCH). `flattr topics grow` moves a log to more "
                "partitions"
            )
        return self._stated or found

    async def send(  # noqa: PLR0913 - each is a property of the record
        self,
        topic: str,
        value: bytes,
        *,
        partition: int,
        timestamp_ms: int,
        timeout_s: float,
        headers: RecordHeaders | None = None,
    ) -> int:
        """Send one record and return its offset once all in-sync replicas have it. Raises ``BrokerUnavailable``.

        After an error the record may still arrive (except after ``StampRefused``), and this producer must be replaced:
        an idempotent producer counts a refused record in its sequence, and the broker does not.
        """
        try:
            async with asyncio.timeout(timeout_s):
                acknowledged = await self._kafka.send(
                    topic, value, partition=partition, timestamp_ms=timestamp_ms, headers=headers
                )
                offset: int = (await acknowledged).offset
        except InvalidTimestampError as error:
            raise StampRefused("the broker refuses our timestamp: its clock or ours is wrong") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"the broker did not acknowledge: {error!r}") from error
        return offset

    async def stop(self) -> None:
        """Flush briefly, then close. Whatever is still in flight has already been refused."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._kafka.stop(), _STOP_TIMEOUT_S)
        # With a dead broker, aiokafka's stop never finishes its flush and closes nothing.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._kafka.client.close(), _STOP_TIMEOUT_S)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._kafka._sender.close(), _STOP_TIMEOUT_S)  # noqa: SLF001 - there is no public way
