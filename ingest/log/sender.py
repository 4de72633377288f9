"""Sends blocks to the brokers: to each one request at a time, with a block of every partition that has something.

aiokafka connects, signs in and knows who leads a partition. Its producer is not used: an accumulator, three futures
and a task for every record took a quarter of ingest's processor time (docs/decisions/0040).

A block is composed when its request sets out, so whatever came while the broker was busy is in it. One block of a
partition is under way at a time. It is sent again as it was, under the same sequence number, while the broker says
that this may help; an idempotent broker then stores it once. When it has been under way for too long, or is refused,
all is over: nothing more sets out, and whoever waits is told.
"""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    DuplicateSequenceNumber,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    for_code,
)
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

#: A record's headers, by name.
RecordHeaders = list[tuple[str, bytes]]
_AGAIN_S: Final = 0.05
_ALL_REPLICAS: Final = -1
#: Most bytes of a request to Kafka: half of it, and one block more.
REQUEST_MAX_BYTES: Final = 2 * 1024 * 1024
#: Sequence numbers begin anew after 2^31.
_SEQUENCE_END: Final = 1 << 31
_log = structlog.get_logger(__name__)


class BrokerUnavailable(Exception):
    """The broker cannot be reached or did not answer in time: retry later."""


class StampRefused(BrokerUnavailable):
    """The broker refuses our timestamps, as its clock and ours differ too much: an operator must correct a clock."""


class Identity(NamedTuple):
    """What an idempotent producer signs its batches with; -1 for one that is not idempotent."""

    producer_id: int = -1
    epoch: int = -1


class Block:
    """One record, and who is told what became of it: its offset, or the error. One of the two is called, once."""

    __slots__ = ("failed", "headers", "placed", "timestamp_ms", "value")

    def __init__(
        self,
        value: bytes,
        timestamp_ms: int,
        placed: Callable[[int], object],
        failed: Callable[[BrokerUnavailable], object],
    ) -> None:
        self.value = value
        self.timestamp_ms = timestamp_ms
        self.placed = placed
        self.failed = failed
        self.headers: RecordHeaders = []


#: Composes the next block of a partition; None when there is nothing to send after all.
Compose = Callable[[], Block | None]


#: What the broker says of a batch: an error, or its offset.
_Answer = tuple[KafkaError | None, int]


class _Batch(NamedTuple):
    """A block in Kafka's form."""

    block: Block
    data: bytes
    give_up_at: float


class Sender:
    """The way of blocks through one client."""

    def __init__(self, client: AIOKafkaClient, identity: Identity, *, timeout_s: float) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._leader_of: Callable[[TopicPartition], int | None] = client.cluster.leader_for_partition
        self._identity = identity
        self._timeout_s = timeout_s
        self._sequences: dict[TopicPartition, int] = defaultdict(int)
        self._asked: dict[TopicPartition, deque[Compose]] = {}
        #: What is to be sent again.
        self._again: dict[TopicPartition, _Batch] = {}
        self._under_way: set[TopicPartition] = set()
        self._busy: set[int | None] = set()
        self._wanted = asyncio.Event()
        self._over = False
        self._requests: set[asyncio.Task[None]] = set()
        self._setting_out = asyncio.create_task(self._run())
        self._setting_out.add_done_callback(end_with_task)

    def ask(self, where: TopicPartition, compose: Compose) -> None:
        """Have ``compose`` called when a block of this partition can set out; when all is over, at once and in vain."""
        if self._over:
            _fail(compose())
            return
        self._asked.setdefault(where, deque()).append(compose)
        if self._leader_of(where) not in self._busy:
            self._wanted.set()

    async def stop(self, patience_s: float) -> None:
        """Wait briefly for what is under way; whatever is not acknowledged then has failed."""
        self._end()
        if self._requests:
            await asyncio.wait(self._requests, timeout=patience_s)
        for task in (self._setting_out, *self._requests):
            task.cancel()
        await asyncio.gather(self._setting_out, *self._requests, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._set_out()

    def _set_out(self) -> None:
        """Send every broker that is not busy what there is for it."""
        if self._over:
            return
        requests: dict[int | None, dict[TopicPartition, _Batch]] = {}
        left_bytes = REQUEST_MAX_BYTES // 2
        for where in list(self._asked):
            leader = self._leader_of(where)
            if leader in self._busy or where in self._under_way or left_bytes <= 0:
                continue
            batch = self._next(where)
            if batch is not None:
                requests.setdefault(leader, {})[where] = batch
                left_bytes -= len(batch.data)
        for leader, batches in requests.items():
            self._busy.add(leader)
            self._under_way.update(batches)
            task = asyncio.create_task(self._send(leader, batches))
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
            task.add_done_callback(end_with_task)

    def _next(self, where: TopicPartition) -> _Batch | None:
        batch = self._again.pop(where, None)
        waiting = self._asked[where]
        while batch is None and waiting:
            block = waiting.popleft()()
            if block is not None:
                batch = self._batch(where, block)
        if not waiting:
            del self._asked[where]
        return batch

    def _batch(self, where: TopicPartition, block: Block) -> _Batch:
        producer_id, epoch = self._identity
        sequence = -1
        if producer_id >= 0:
            sequence = self._sequences[where]
            self._sequences[where] = (sequence + 1) % _SEQUENCE_END
        builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id, epoch, sequence, REQUEST_MAX_BYTES)
        builder.append(0, block.timestamp_ms, None, block.value, block.headers)
        return _Batch(block, builder.build(), self._loop.time() + self._timeout_s)

    async def _send(self, leader: int | None, batches: dict[TopicPartition, _Batch]) -> None:
        """One request, and what becomes of its blocks."""
        answers: dict[TopicPartition, _Answer] = {}
        again: dict[TopicPartition, _Batch] = {}
        try:
            answers = await self._answers(leader, batches)
            errors = [where for where, (error, _) in answers.items() if error is not None]
            again = {where: batches.pop(where) for where in errors if self._may_help(answers[where], batches[where])}
            self._under_way.difference_update(batches)
            if not errors:
                # The next request first, so that the broker works while the clients of this one are answered.
                self._busy.discard(leader)
                self._set_out()
                await asyncio.sleep(0)
        finally:
            self._tell(batches, answers)
        if errors:
            await self._send_again(again, [answers[where] for where in again])
            self._busy.discard(leader)
            self._set_out()

    def _may_help(self, answer: _Answer, batch: _Batch) -> bool:
        """Whether to send a batch again."""
        error, _ = answer
        return error is not None and error.retriable and self._loop.time() < batch.give_up_at and not self._over

    def _tell(self, batches: dict[TopicPartition, _Batch], answers: dict[TopicPartition, _Answer]) -> None:
        """Tell what became of these. One failure ends all, after those of its request: they are the oldest."""
        has_failed = False
        for where, batch in batches.items():
            error, offset = answers.get(where, _NO_ANSWER)
            if error is None:
                batch.block.placed(offset)
            else:
                has_failed = True
                batch.block.failed(_translated(error))
        if has_failed:
            self._end()

    async def _send_again(self, again: dict[TopicPartition, _Batch], answers: list[_Answer]) -> None:
        """Have these sent again a moment later, to whoever leads their partitions then."""
        if any(getattr(error, "invalid_metadata", False) for error, _ in answers):
            self._client.force_metadata_update()
        try:
            await asyncio.sleep(_AGAIN_S)
            if not self._over:
                self._again.update(again)
                for where in again:
                    self._asked.setdefault(where, deque())
                again = {}
        finally:
            self._under_way.difference_update(again, self._again)
            for batch in again.values():
                _fail(batch.block)

    async def _answers(
        self, leader: int | None, batches: dict[TopicPartition, _Batch]
    ) -> dict[TopicPartition, _Answer]:
        """What the broker says of each batch: an error, or its offset."""
        if leader in (None, -1):
            return dict.fromkeys(batches, (LeaderNotAvailableError(), -1))
        topics: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for where, batch in batches.items():
            topics[where.topic].append((where.partition, batch.data))
        request = ProduceRequest(None, _ALL_REPLICAS, round(self._timeout_s * 1000), list(topics.items()))
        try:
            async with asyncio.timeout_at(min(batch.give_up_at for batch in batches.values())):
                response = await self._client.send(leader, request)
        except Exception as error:  # noqa: BLE001 - writing to a transport that was just cut is a RuntimeError of uvloop
            kafka_error = error if isinstance(error, KafkaError) else KafkaConnectionError(repr(error))
            return dict.fromkeys(batches, (kafka_error, -1))
        return {
            TopicPartition(topic, number): (_error(code), offset)
            for topic, partitions in response.topics
            for number, code, offset, *_ in partitions
        }

    def _end(self) -> None:
        """Nothing sets out any more, and whoever waits is told."""
        if self._over:
            return
        self._over = True
        again, self._again = self._again, {}
        for batch in again.values():
            _fail(batch.block)
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            for compose in waiting:
                _fail(compose())


def _error(code: int) -> KafkaError | None:
    """The error of a batch. One whose sequence number is already stored is stored, and its offset unknown (-1)."""
    kind: type[KafkaError] = for_code(code)
    return None if kind in (NoError, DuplicateSequenceNumber) else kind()


def _translated(error: KafkaError) -> BrokerUnavailable:
    if isinstance(error, InvalidTimestampError):
        return StampRefused("the broker refuses our timestamp: its clock or ours is wrong")
    return BrokerUnavailable(f"the broker did not acknowledge: {error!r}")


def _fail(block: Block | None) -> None:
    if block is not None:
        block.failed(BrokerUnavailable("the way to the broker is closed"))


_NO_ANSWER: Final[_Answer] = (KafkaConnectionError("the broker says nothing of this block"), -1)


def end_with_task(task: asyncio.Task[Any]) -> None:
    """Stop the process when a task died: a dead sender would leave clicks unanswered, a restart does not."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a publisher task failed unexpectedly; stopping", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
