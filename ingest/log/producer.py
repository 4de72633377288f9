"""The adapter to Kafka: connects, checks the topics, and stops. What is sent goes by ingest/log/sender.py."""

from __future__ import annotations

import asyncio
import contextlib

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from ingest.log.sender import Block, BrokerUnavailable, Compose, Identity, Sender
from ingest.runtime.kafka_settings import client_security
from ingest.settings import IngestSettings

_START_TIMEOUT_S = 10
_STOP_TIMEOUT_S = 1
_AGAIN_S = 0.05
#: Of a transaction, of which there is none: the most that the field holds.
_NO_TRANSACTION_MS = (1 << 31) - 1


class TopicMissing(RuntimeError):
    """The broker is reachable, but the topic does not exist, or is not as it was: the message says what to do."""


class Producer:
    """One way to the brokers; one that failed is replaced, never repaired.

    ``partitions`` is how many of them clicks are sent into. ``sent_into`` is how many it was before; 0: none known.
    """

    def __init__(self, settings: IngestSettings, sent_into: int = 0) -> None:
        self._stated, self._sent_into = settings.log_partitions, sent_into
        self._topics = (settings.topic_clicks, settings.topic_rejected)
        self._idempotent = settings.idempotence
        self._timeout_s = settings.produce_timeout_s
        self._client = AIOKafkaClient(
            bootstrap_servers=settings.broker,
            **client_security(settings),
            client_id="flattr-ingest",
            request_timeout_ms=round(settings.produce_timeout_s * 1000),
            retry_backoff_ms=50,
        )
        self._sender: Sender | None = None
        #: Where a block of clicks goes, by its partition.
        self._places: list[TopicPartition] = []

    @property
    def partitions(self) -> int:
        """How many partitions clicks are sent into."""
        return len(self._places)

    async def start(self) -> None:
        """Connect and check the topics. Raises ``BrokerUnavailable`` or ``TopicMissing``, and stops first."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._client.bootstrap()
                identity = await self._identity() if self._idempotent else Identity()
                cluster = await self._client.fetch_all_metadata()
                count = self._in_use(cluster)
                await self._client.set_topics(self._topics)
        except (TopicMissing, asyncio.CancelledError):
            await self.stop()
            raise
        except Exception as error:
            # Not only Kafka's errors: writing to a transport that was just cut is a RuntimeError of uvloop.
            await self.stop()
            raise BrokerUnavailable(f"cannot connect to the broker: {error}") from error
        self._places = [TopicPartition(self._topics[0], number) for number in range(count)]
        self._sender = Sender(self._client, identity, timeout_s=self._timeout_s)

    async def _identity(self) -> Identity:
        """Have a broker name this producer."""
        while True:
            node = self._client.get_random_node()
            answer = await self._client.send(node, InitProducerIdRequest(None, _NO_TRANSACTION_MS))
            error: type[KafkaError] = for_code(answer.error_code)
            if not answer.error_code:
                return Identity(answer.producer_id, answer.producer_epoch)
            if not error.retriable:
                raise error
            await asyncio.sleep(_AGAIN_S)

    def _in_use(self, cluster: ClusterMetadata) -> int:
        """How many partitions to use of those found. A member's clicks must stay in one. Raises ``TopicMissing``."""
        missing = [topic for topic in self._topics if not cluster.partitions_for_topic(topic)]
        if missing:
            raise TopicMissing(f"the broker has no topic {' and no topic '.join(missing)}: run `flattr topics create`")
        found = len(cluster.partitions_for_topic(self._topics[0]))
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

    def ask(self, partition: int, compose: Compose) -> None:
        """Have the next block of this partition's clicks composed when it can set out."""
        if self._sender is None:
            raise BrokerUnavailable("the producer has not started")
        self._sender.ask(self._places[partition], compose)

    async def send(self, topic: str, value: bytes, *, partition: int, timestamp_ms: int) -> int:
        """Send one record and return its offset once all in-sync replicas have it. Raises ``BrokerUnavailable``.

        After an error the record may still arrive (except after ``StampRefused``), and this producer must be replaced:
        an idempotent producer counts a refused record in its sequence, and the broker does not.
        """
        if self._sender is None:
            raise BrokerUnavailable("the producer has not started")
        offset: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def placed(at: int) -> None:
            if not offset.done():
                offset.set_result(at)

        def failed(error: BrokerUnavailable) -> None:
            if not offset.done():
                offset.set_exception(error)

        block = Block(value, timestamp_ms, placed, failed)
        self._sender.ask(TopicPartition(topic, partition), lambda: block)
        return await offset

    async def stop(self) -> None:
        """Wait briefly for what is under way, then close. Whatever is still in flight has failed then."""
        if self._sender is not None:
            await self._sender.stop(_STOP_TIMEOUT_S)
        # A connection to a dead broker may never say that it is closed.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.close(), _STOP_TIMEOUT_S)
