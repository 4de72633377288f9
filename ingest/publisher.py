"""Blocks: clicks of many requests travel to Kafka together, one record per partition and moment.

A request hands over a *chunk*: its clicks of one partition, already encoded. One batcher per partition
takes what has gathered, waits a moment for company (``linger_ms``, counted from the first chunk, so under
load, when the previous block's flight took longer, not at all), sends one block, and answers every chunk in
it. Nothing is done per click but to append its bytes.

What a crash costs at each step:
1. submit: nothing was promised; the client has no answer and sends again, with the same click ids.
2. the block is sent and not acknowledged: the same; what Kafka has of it is deduplicated by the stream.
3. acknowledged and not answered: the same.
4. answered: nothing; every in-sync replica has the block.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from ingest.broker import BrokerUnavailable, Producer, TopicMissing
from ingest.click import BLOCK_CLICKS_MAX, Reason, Rejection, encode_rejection
from ingest.clock import Clock
from ingest.metrics import Metrics
from ingest.settings import IngestSettings

#: Kafka takes 1,048,588 bytes a record batch unless told otherwise.
BLOCK_MAX_BYTES: Final = 900_000
_RECONNECT_MIN_S: Final = 0.1
_RECONNECT_MAX_S: Final = 2.0
_REJECTIONS_WAITING_MAX: Final = 1000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a chunk's first click stands in the log; the others follow it.

    ``offset`` is None when Kafka, asked again, knew the block but not where.
    """

    partition: int
    offset: int | None
    index: int


#: Told where a chunk's first click is, or why it is nowhere. Must not raise.
Answer = Callable[[Placed | Reason], None]


class Chunk:
    """One request's clicks of one partition, and who is to be told what became of them."""

    __slots__ = ("answer", "clicks", "lines")

    def __init__(self, lines: bytes, clicks: int, answer: Answer) -> None:
        self.lines = lines
        self.clicks = clicks
        self.answer = answer


class Publisher:
    """Sends chunks in blocks and answers them; keeps a producer alive as long as it runs."""

    def __init__(self, settings: IngestSettings, clock: Clock, metrics: Metrics) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._producer: Producer | None = None
        self._lanes: list[_Lane] = []
        self._queued_bytes = 0
        self._broken = asyncio.Event()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._rejections: asyncio.Queue[bytes] = asyncio.Queue(_REJECTIONS_WAITING_MAX)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def partitions(self) -> int:
        """Of the topic of clicks; 0 until the broker was seen."""
        return len(self._lanes)

    @property
    def connected(self) -> bool:
        """Whether blocks can be sent now."""
        return self._producer is not None

    async def start(self) -> None:
        """Connect. A broker that is away is waited for in the background; raises ``TopicMissing``."""
        try:
            await self._connect()
        except BrokerUnavailable as error:
            _log.warning("the broker is away; clicks are refused until it is back", reason=str(error))
            self._broken.set()
        self._tasks = [asyncio.create_task(self._keep_connected()), asyncio.create_task(self._send_rejections())]

    async def drain(self) -> None:
        """Take nothing more, answer what is under way, stop."""
        self._draining = True
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.drain_timeout_s):
                    await self._idle.wait()
                    await self._rejections.join()

    def submit(self, partition: int, lines: bytes, clicks: int, answer: Answer) -> None:
        """Queue a chunk. ``answer`` is called when the broker has it, or when it is certain that it is refused."""
        if self._draining:
            answer(Reason.DRAINING)
        elif self._producer is None:
            answer(Reason.BROKER_UNAVAILABLE)
        elif self._queued_bytes + len(lines) > self._settings.queue_max_bytes:
            answer(Reason.QUEUE_FULL)
        else:
            self._queued_bytes += len(lines)
            self._idle.clear()
            self._lanes[partition].put(Chunk(lines, clicks, answer))

    async def placed(self, partition: int, lines: bytes, clicks: int) -> Placed | Reason:
        """The same for one who can wait."""
        answer: asyncio.Future[Placed | Reason] = asyncio.get_running_loop().create_future()
        self.submit(partition, lines, clicks, answer.set_result)
        return await answer

    def reject(self, rejection: Rejection) -> bool:
        """Queue refused input for its topic; False when there is no room: it is counted and forgotten."""
        try:
            self._rejections.put_nowait(encode_rejection(rejection))
        except asyncio.QueueFull:
            self._metrics.rejections_dropped += 1
            return False
        return True

    async def _connect(self) -> None:
        producer = Producer(self._settings)
        await producer.start()
        self._broken.clear()
        while len(self._lanes) < producer.partitions:
            lane = _Lane()
            self._tasks.append(asyncio.create_task(self._run_lane(len(self._lanes), lane)))
            self._lanes.append(lane)
        self._producer = producer
        self._metrics.producers += 1
        self._metrics.broker_up = 1

    async def _keep_connected(self) -> None:
        """Replace a producer that failed.

        aiokafka itself would retry an old block for ever, and could land it after its month was closed; and a
        producer stuck at a sequence number never recovers (its issue 1017).
        """
        pause_s = _RECONNECT_MIN_S
        while True:
            await self._broken.wait()
            await self._give_up()
            try:
                await self._connect()
            except (BrokerUnavailable, TopicMissing) as error:
                _log.warning("no producer yet", reason=str(error), next_try_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RECONNECT_MAX_S)
            else:
                pause_s = _RECONNECT_MIN_S
                _log.info("the broker is back")

    async def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        self._metrics.broker_up = 0
        for lane in self._lanes:
            self._answer(lane.empty(), Reason.BROKER_UNAVAILABLE)
        if producer is not None:
            await producer.stop()

    async def _run_lane(self, partition: int, lane: _Lane) -> None:
        linger_s = self._settings.linger_ms / 1000
        now = asyncio.get_running_loop().time
        while True:
            await lane.filled.wait()
            rest_s = lane.first_at + linger_s - now()
            if rest_s > 0:
                await asyncio.sleep(rest_s)
            chunks = lane.take()
            if chunks:
                await self._send_block(partition, chunks)

    async def _send_block(self, partition: int, chunks: list[Chunk]) -> None:
        producer = self._producer
        if producer is None:
            self._answer(chunks, Reason.BROKER_UNAVAILABLE)
            return
        try:
            offset = await producer.send(
                self._settings.topic_clicks,
                b"\n".join([chunk.lines for chunk in chunks]),
                partition=partition,
                timestamp_ms=self._clock(),
                timeout_s=self._settings.produce_timeout_s,
            )
        except BrokerUnavailable as error:
            self._metrics.blocks_failed += 1
            _log.warning("block failed", partition=partition, chunks=len(chunks), reason=str(error))
            self._answer(chunks, Reason.BROKER_UNAVAILABLE)
            if producer is self._producer:
                self._broken.set()
            return
        self._placed(chunks, partition, offset if offset >= 0 else None)

    def _placed(self, chunks: list[Chunk], partition: int, offset: int | None) -> None:
        index = 0
        for chunk in chunks:
            self._queued_bytes -= len(chunk.lines)
            _tell(chunk, Placed(partition, offset, index))
            index += chunk.clicks
        self._metrics.blocks += 1
        self._metrics.block_clicks.observe(index)
        self._settle()

    def _answer(self, chunks: list[Chunk], reason: Reason) -> None:
        for chunk in chunks:
            self._queued_bytes -= len(chunk.lines)
            _tell(chunk, reason)
        self._settle()

    def _settle(self) -> None:
        self._metrics.queued_bytes = self._queued_bytes
        if not self._queued_bytes:
            self._idle.set()

    async def _send_rejections(self) -> None:
        """One after the other: the queue in front is what may be kept of a burst."""
        while True:
            value = await self._rejections.get()
            kept = self._producer is not None and await self._send_rejection(self._producer, value)
            self._metrics.rejections_kept += kept
            self._metrics.rejections_dropped += not kept
            self._rejections.task_done()

    async def _send_rejection(self, producer: Producer, value: bytes) -> bool:
        try:
            await producer.send(
                self._settings.topic_rejected,
                value,
                partition=0,
                timestamp_ms=self._clock(),
                timeout_s=self._settings.produce_timeout_s,
            )
        except BrokerUnavailable:
            return False
        return True

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._give_up()


def _tell(chunk: Chunk, place: Placed | Reason) -> None:
    """Answer one request; a mistake in its answer is not to take the others of its block along."""
    try:
        chunk.answer(place)
    except Exception:  # noqa: BLE001 - whatever it is, it is that request's alone
        _log.exception("an answer could not be given")


class _Lane:
    """What waits for one partition's next block."""

    __slots__ = ("_chunks", "filled", "first_at")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self.filled = asyncio.Event()
        self.first_at = 0.0

    def put(self, chunk: Chunk) -> None:
        if not self._chunks:
            self.first_at = asyncio.get_running_loop().time()
            self.filled.set()
        self._chunks.append(chunk)

    def take(self) -> list[Chunk]:
        """The next block's chunks: as many as one record holds."""
        block: list[Chunk] = []
        length = clicks = 0
        while self._chunks:
            length += len(self._chunks[0].lines) + 1
            clicks += self._chunks[0].clicks
            if block and (length > BLOCK_MAX_BYTES or clicks > BLOCK_CLICKS_MAX):
                return block
            block.append(self._chunks.popleft())
        self.filled.clear()
        return block

    def empty(self) -> list[Chunk]:
        """Everything, at once."""
        chunks = list(self._chunks)
        self._chunks.clear()
        self.filled.clear()
        return chunks
