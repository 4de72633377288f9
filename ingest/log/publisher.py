"""Publishing in blocks: the clicks of many requests go to Kafka as one record per partition.

A request submits its member's clicks, already encoded. One batcher per partition sends one block at a time and answers
every request in it. What arrives while that block is under way is the next one, so blocks grow with the load and a lone
click waits for nobody. The only work per click is appending its bytes.

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
import signal
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from ingest.contract.click import received_until
from ingest.contract.rejection import Reason, Rejection, encode_rejection
from ingest.log.lane import Lane, Placed, RequestClicks
from ingest.log.partitions_note import note_partitions, noted_partitions
from ingest.log.producer import BrokerUnavailable, Producer, RecordHeaders, StampRefused, TopicMissing
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
            self._spooler = Spooler(self._settings, self._metrics, interrupted=self._empty_lanes)
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

    def submit(self, member_hash: int, lines: bytes, clicks: int, answer: Callable[[Placed | Reason], None]) -> None:
        """Queue a request's clicks. ``answer`` is called once: when they are stored, or when they are refused."""
        if self._draining:
            answer(Reason.DRAINING)
        elif self._producer is not None and (self._spooler is None or not self._spooler.taking):
            if self._queued_bytes + len(lines) > self._settings.queue_max_bytes:
                answer(Reason.QUEUE_FULL)
                return
            self._queued_bytes += len(lines)
            self._idle.clear()
            self._lanes[member_hash % len(self._lanes)].put(member_hash, RequestClicks(lines, clicks, answer))
        elif self._spooler is not None:
            self._spooler.put(member_hash, RequestClicks(lines, clicks, answer))
        else:
            answer(Reason.BROKER_UNAVAILABLE)

    async def placed(self, member_hash: int, lines: bytes, clicks: int) -> Placed | Reason:
        """``submit`` as a coroutine."""
        answer: asyncio.Future[Placed | Reason] = asyncio.get_running_loop().create_future()
        self.submit(member_hash, lines, clicks, answer.set_result)
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
        task.add_done_callback(_ended)
        self._tasks.append(task)

    async def _connect(self) -> None:
        spool, topic = self._settings.spool, self._settings.topic_clicks
        producer = Producer(self._settings, len(self._lanes) or noted_partitions(spool, topic))
        await producer.start()
        if not self._lanes:
            note_partitions(spool, topic, producer.partitions)
        self._broken.clear()
        while len(self._lanes) < producer.partitions:
            lane = Lane()
            self._run(self._run_lane(len(self._lanes), lane))
            self._lanes.append(lane)
        self._producer = producer
        self._connected.set()
        self._metrics.producers += 1
        self._metrics.broker_up = 1

    async def _keep_connected(self) -> None:
        """Replace a failed producer, with backoff.

        aiokafka itself would retry an old block for ever and might deliver it after its month was closed; and a
        producer stuck at a sequence number never recovers (aiokafka issue 1017).
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

    async def _run_lane(self, partition: int, lane: Lane) -> None:
        while True:
            await lane.filled.wait()
            if self._spooler is not None and not self._spooler.clear.is_set():
                await self._spooler.clear.wait()
            chunks = lane.take()
            if chunks:
                await self._send_block(partition, chunks)

    async def _send_block(self, partition: int, chunks: list[tuple[int, RequestClicks]]) -> None:
        try:
            offset = await self._send(partition, b"\n".join([chunk.lines for _, chunk in chunks]))
        except BrokerUnavailable as error:
            _outages.warning("cannot send a block", partition=partition, chunks=len(chunks), reason=str(error))
            self._not_taken(chunks)
            return
        index = 0
        for _, chunk in chunks:
            self._queued_bytes -= len(chunk.lines)
            chunk.tell(Placed(partition, offset if offset >= 0 else None, index))
            index += chunk.clicks
        self._metrics.blocks += 1
        self._metrics.block_clicks.observe(index)
        self._settle()

    async def _send(self, partition: int, block: bytes) -> int:
        """Send one block, stamped with the time of sending. Raises ``BrokerUnavailable``.

        The stamp decides what is late: a click that waited in the spool until its month was closed must not look as if
        it had arrived in time. Receipt times after the stamp are capped, since streams refuse them and the clock may
        have been set back.
        """
        producer = self._producer
        if producer is None:
            raise BrokerUnavailable("the broker is unavailable")
        timestamp_ms = self._clock()
        block = received_until(block, timestamp_ms)
        try:
            offset = await producer.send(
                self._settings.topic_clicks,
                block,
                partition=partition,
                timestamp_ms=timestamp_ms,
                timeout_s=self._settings.produce_timeout_s,
                headers=self._headers(),
            )
        except BrokerUnavailable as error:
            self._metrics.blocks_failed += 1
            if isinstance(error, StampRefused):
                self._note_clock()
            if producer is self._producer:
                self._connected.clear()
                self._broken.set()
            raise
        if self._clock_refused:
            self._clock_refused = False
            _log.info("the broker accepts our timestamps again")
        return offset

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

    def _headers(self) -> RecordHeaders | None:
        """Headers for the next block; see ingest/tracing.py."""
        return None

    async def _send_records(self, records: list[Record]) -> None:
        """Send records of the spool to the broker, in order within each partition."""
        for blocks in blocks_of(records, len(self._lanes)):
            sent = await asyncio.gather(
                *(self._send(partition, block) for partition, block in blocks), return_exceptions=True
            )
            for outcome in sent:
                if isinstance(outcome, BaseException):
                    raise outcome

    def _not_taken(self, chunks: list[tuple[int, RequestClicks]]) -> None:
        """Put requests the broker did not accept into the spool, or refuse them if there is none."""
        for member_hash, chunk in chunks:
            self._queued_bytes -= len(chunk.lines)
            if self._spooler is not None:
                self._spooler.put(member_hash, chunk)
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
            await producer.send(
                self._settings.topic_rejected,
                value,
                partition=0,
                timestamp_ms=self._clock(),
                timeout_s=self._settings.produce_timeout_s,
            )
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


def _ended(task: asyncio.Task[None]) -> None:
    """Stop the process when a task died: a dead batcher would leave its clicks unanswered, a restart does not."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a publisher task failed unexpectedly; stopping", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
