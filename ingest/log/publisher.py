"""Publishing in blocks: the clicks of many requests go to Kafka as one record per partition.

A request submits its member's clicks, already encoded. They wait in their partition's lane until the sender can take a
block, which is all that waits there by then (ingest/log/sender.py). So blocks grow with the load and a lone click waits
for nobody. The only work per click is appending its bytes.

What a crash costs after each step:
1. submitted: nothing was promised; the client gets no answer and retries with the same click ids.
2. sent but not acknowledged: the same; what Kafka has of the block is deduplicated by the stream.
3. acknowledged but not answered: the same.
4. answered: nothing; every in-sync replica has the block, or the spool has the clicks.

With a spool, clicks that the broker does not accept go there, and so do all later ones until the spool is empty
again, which preserves their order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import structlog

from ingest.contract.click import received_until
from ingest.contract.rejection import Reason, Rejection, encode_rejection
from ingest.log.lane import Lane, Placed, RequestClicks
from ingest.log.partitions_note import note_partitions, noted_partitions
from ingest.log.producer import Producer, TopicMissing
from ingest.log.sender import Block, BrokerUnavailable, StampRefused, end_with_task
from ingest.log.spool import Record
from ingest.log.spooler import Spooler, blocks_of
from ingest.metrics import Metrics
from ingest.runtime.backoff import backoff_s
from ingest.runtime.clock import Clock
from ingest.runtime.repeated import Repeated
from ingest.settings import IngestSettings

_RECONNECT_FIRST_S: Final = 0.1
_RECONNECT_MAX_S: Final = 2.0
#: How long to wait after the broker refused a timestamp: correcting a clock takes an operator.
_CLOCK_RETRY_S: Final = 1.0
_REJECTIONS_WAITING_MAX: Final = 1000
_log = structlog.get_logger(__name__)
_outages = Repeated(_log)


class Publisher:
    """Sends requests' clicks in blocks and answers them; replaces its producer when that fails."""

    def __init__(self, settings: IngestSettings, clock: Clock, metrics: Metrics) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._producer: Producer | None = None
        self._lanes: list[Lane] = []
        self._queued_bytes = 0
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._clock_refused = False
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._rejections: asyncio.Queue[bytes] = asyncio.Queue(_REJECTIONS_WAITING_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._spooler: Spooler | None = None

    @property
    def connected(self) -> bool:
        """Whether blocks can be sent now."""
        return self._producer is not None

    def state(self) -> dict[str, str]:
        """The state of the broker and the spool, for /ready: one that can take clicks is enough."""
        broker = "refuses our clock" if self._clock_refused else "connected" if self.connected else "away"
        checks = {"broker": broker}
        if self._spooler is not None:
            filling = "empty" if self._spooler.clear.is_set() else f"{self._metrics.spool_clicks} clicks"
            checks["spool"] = "full" if self._spooler.full else filling
        return checks

    @property
    def ready(self) -> bool:
        """Whether clicks can be accepted now."""
        return not self._draining and (self.connected or (self._spooler is not None and not self._spooler.full))

    async def start(self) -> None:
        """Connect, in the background if the broker is unavailable. Raises ``TopicMissing``."""
        try:
            await self._connect()
        except BrokerUnavailable as error:
            _log.warning("the broker is unavailable", reason=str(error), spool=self._settings.spool is not None)
            self._broken.set()
        jobs = [self._keep_connected(), self._send_rejections()]
        if self._settings.spool is not None:
            self._spooler = Spooler(
                self._settings, self._metrics, interrupted=self._empty_lanes, cleared=self._ask_for_lanes
            )
            jobs += [self._spooler.write(), self._spooler.replay(self._send_records, self._connected)]
        for job in jobs:
            self._run(job)

    async def drain(self) -> None:
        """Accept nothing more, answer what is in flight, stop. The spool stays as it is."""
        self._draining = True
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.drain_timeout_s):
                    await self._idle.wait()
                    if self._spooler is not None:
                        await self._spooler.idle.wait()
                    await self._rejections.join()

    def submit(self, chunk: RequestClicks) -> None:
        """Queue a request's clicks. It is answered once: when they are stored, or when they are refused."""
        if self._draining:
            chunk.answer(Reason.DRAINING)
        elif self._producer is not None and (self._spooler is None or not self._spooler.taking):
            if self._queued_bytes + len(chunk.lines) > self._settings.queue_max_bytes:
                chunk.answer(Reason.QUEUE_FULL)
                return
            self._queued_bytes += len(chunk.lines)
            self._idle.clear()
            lane = self._lanes[chunk.member_hash % len(self._lanes)]
            lane.put(chunk)
            if not lane.asked:
                self._ask(lane, self._producer)
        elif self._spooler is not None:
            self._spooler.put(chunk)
        else:
            chunk.answer(Reason.BROKER_UNAVAILABLE)

    async def placed(self, member_hash: int, lines: bytes, clicks: int) -> Placed | Reason:
        """``submit`` as a coroutine."""
        answer: asyncio.Future[Placed | Reason] = asyncio.get_running_loop().create_future()
        self.submit(RequestClicks(member_hash, lines, clicks, self._clock(), answer.set_result))
        return await answer

    def reject(self, rejection: Rejection) -> bool:
        """Queue refused input for its topic; False when the queue is full."""
        try:
            self._rejections.put_nowait(encode_rejection(rejection))
        except asyncio.QueueFull:
            return False
        return True

    def _run(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        task.add_done_callback(end_with_task)
        self._tasks.append(task)

    async def _connect(self) -> None:
        spool, topic = self._settings.spool, self._settings.topic_clicks
        producer = Producer(self._settings, len(self._lanes) or noted_partitions(spool, topic))
        await producer.start()
        if not self._lanes:
            note_partitions(spool, topic, producer.partitions)
        self._broken.clear()
        while len(self._lanes) < producer.partitions:
            self._lanes.append(Lane(len(self._lanes)))
        self._producer = producer
        self._connected.set()
        self._metrics.producers += 1
        self._metrics.broker_up = 1

    async def _keep_connected(self) -> None:
        """Replace a failed producer, with backoff.

        A failed one is never repaired: its block might arrive after its month was closed, and its sequence numbers are
        not the broker's any more.
        """
        failures = 0
        while True:
            await self._broken.wait()
            await self._give_up()
            if self._clock_refused:
                await asyncio.sleep(_CLOCK_RETRY_S)
            try:
                await self._connect()
            except (BrokerUnavailable, TopicMissing) as error:
                pause_s = backoff_s(failures, first_s=_RECONNECT_FIRST_S, max_s=_RECONNECT_MAX_S)
                failures += 1
                _outages.warning("cannot connect to the broker", reason=str(error), next_try_s=round(pause_s, 3))
                await asyncio.sleep(pause_s)
            else:
                failures = 0
                # A broker that refuses our clock lets us in every second.
                _outages.info("reconnected to the broker")

    async def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        self._connected.clear()
        self._metrics.broker_up = 0
        self._empty_lanes()
        if producer is not None:
            await producer.stop()

    def _ask(self, lane: Lane, producer: Producer) -> None:
        lane.asked = True
        producer.ask(lane.partition, partial(self._next_block, lane, producer))

    def _ask_for_lanes(self) -> None:
        """The broker has everything that was spooled: what waited behind it may go."""
        for lane in self._lanes:
            if self._producer is not None and lane.filled and not lane.asked:
                self._ask(lane, self._producer)

    def _next_block(self, lane: Lane, producer: Producer) -> Block | None:
        """What waits in a lane, as a block that sets out now."""
        lane.asked = False
        if self._spooler is not None and not self._spooler.clear.is_set():
            return None
        chunks = lane.take()
        if not chunks:
            return None
        if lane.filled:
            self._ask(lane, producer)
        return self._block(lane.partition, chunks, producer)

    def _block(self, partition: int, chunks: list[RequestClicks], producer: Producer) -> Block:
        """One block, stamped with the time of sending.

        The stamp decides what is late: a click that waited until its month was closed must not look as if it had
        arrived in time. Receipt times after the stamp are capped, since streams refuse them and the clock may have been
        set back.
        """
        timestamp_ms = self._clock()
        value = b"\n".join([chunk.lines for chunk in chunks])
        if any(chunk.received_at > timestamp_ms for chunk in chunks):
            value = received_until(value, timestamp_ms)
        return Block(
            value, timestamp_ms, partial(self._acknowledged, partition, chunks), partial(self._failed, chunks, producer)
        )

    def _acknowledged(self, partition: int, chunks: list[RequestClicks], offset: int) -> None:
        index = 0
        for chunk in chunks:
            self._queued_bytes -= len(chunk.lines)
            chunk.tell(Placed(partition, offset if offset >= 0 else None, index))
            index += chunk.clicks
        self._metrics.blocks += 1
        self._metrics.block_clicks.observe(index)
        self._note_success()
        self._settle()

    def _failed(self, chunks: list[RequestClicks], producer: Producer, error: BrokerUnavailable) -> None:
        _outages.warning("cannot send a block", chunks=len(chunks), reason=str(error))
        self._note_failure(producer, error)
        self._not_taken(chunks)

    async def _send(self, partition: int, block: bytes) -> int:
        """Send one block of the spool, stamped as in ``_block``. Raises ``BrokerUnavailable``."""
        producer = self._producer
        if producer is None:
            raise BrokerUnavailable("the broker is unavailable")
        timestamp_ms = self._clock()
        block = received_until(block, timestamp_ms)
        try:
            offset = await producer.send(
                self._settings.topic_clicks, block, partition=partition, timestamp_ms=timestamp_ms
            )
        except BrokerUnavailable as error:
            self._note_failure(producer, error)
            raise
        self._note_success()
        return offset

    def _note_success(self) -> None:
        if self._clock_refused:
            self._clock_refused = False
            _log.info("the broker accepts our timestamps again")

    def _note_failure(self, producer: Producer, error: BrokerUnavailable) -> None:
        """Count it, and have the producer replaced."""
        self._metrics.blocks_failed += 1
        if isinstance(error, StampRefused):
            self._note_clock()
        if producer is self._producer:
            self._connected.clear()
            self._broken.set()

    def _note_clock(self) -> None:
        """Log once, as the broker's own log does not show it; the metric counts every time."""
        self._metrics.stamps_refused += 1
        if not self._clock_refused:
            self._clock_refused = True
            now = datetime.fromtimestamp(self._clock() / 1000, UTC)
            _log.error(
                "the broker refuses our timestamps: this host's clock or the broker's is wrong; check NTP on both",
                our_time=now.isoformat(timespec="seconds"),
                clicks_go_to="the spool" if self._spooler is not None else "nowhere: requests are answered 503",
            )

    async def _send_records(self, records: list[Record]) -> None:
        """Send records of the spool to the broker, in order within each partition."""
        for blocks in blocks_of(records, len(self._lanes)):
            sent = await asyncio.gather(
                *(self._send(partition, block) for partition, block in blocks), return_exceptions=True
            )
            for outcome in sent:
                if isinstance(outcome, BaseException):
                    raise outcome

    def _not_taken(self, chunks: list[RequestClicks]) -> None:
        """Put requests the broker did not accept into the spool, or refuse them if there is none."""
        for chunk in chunks:
            self._queued_bytes -= len(chunk.lines)
            if self._spooler is not None:
                self._spooler.put(chunk)
            else:
                chunk.tell(Reason.BROKER_UNAVAILABLE)
        self._settle()

    def _empty_lanes(self) -> None:
        for lane in self._lanes:
            self._not_taken(lane.empty())

    def _settle(self) -> None:
        self._metrics.queued_bytes = self._queued_bytes
        if not self._queued_bytes:
            self._idle.set()

    async def _send_rejections(self) -> None:
        """Send rejections one at a time; the queue bounds a burst."""
        while True:
            value = await self._rejections.get()
            retained = self._producer is not None and await self._send_rejection(self._producer, value)
            self._metrics.rejections_kept += retained
            self._metrics.rejections_dropped += not retained
            self._rejections.task_done()

    async def _send_rejection(self, producer: Producer, value: bytes) -> bool:
        try:
            await producer.send(self._settings.topic_rejected, value, partition=0, timestamp_ms=self._clock())
        except StampRefused:
            self._note_clock()
            self._broken.set()
            return False
        except BrokerUnavailable:
            return False
        return True

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._give_up()
        if self._spooler is not None:
            self._spooler.close()
