"""Faust's consumer, delivering all records of one fetch of a partition as one event.

Faust costs about 300 us per event: four tasks in ``Consumer._drain_messages``, a reference count, two entries in
per-offset lists. So the event here is a chunk (streams/source/chunk.py), and three methods of Faust's consumer are
overridden:

- ``getmany`` yields one message per partition and fetch instead of one per record.
- Acknowledgement: our agents acknowledge a partition's chunks in order, so one number per partition, the offset after
  the last acknowledged record, replaces the lists and gap trees.
- ``seek_to_committed`` takes offsets from the warehouse's ``progress`` instead of Kafka's committed offsets. Faust
  calls it after each rebalance, before the flow is resumed.

aiokafka makes objects of every record, which takes as long as decoding its click; here its fetcher delivers columns
(streams/source/fetched.py).

tests/streams/test_faust.py checks these assumptions about Faust and aiokafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, cast

import numpy as np
import structlog
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message

from streams.source.chunk import Chunk, LogRecord, Records, joined
from streams.source.fetched import deliver_columns

_log = structlog.get_logger()
#: Kafka's timestamp type; nobody reads it of a chunk.
_SET_BY_PRODUCER: Final = 0


class Positions(Protocol):
    """Knows from which offset to read each partition."""

    async def where(
        self,
        partitions: set[TP],
        starts: Mapping[TP, int],
        ends: Mapping[TP, int],
        committed: Callable[[TP], Awaitable[int | None]],
    ) -> dict[TP, int]:
        """The next offset of each partition; raises when the log does not contain it."""

    def check_start(self, tp: TP, offset: int, start: int) -> None:
        """Raises when the log begins after the next offset to count, so that records were deleted uncounted."""

    async def settle(self) -> None:
        """Drop what is not counted, and wait for a bounded time until nothing is being written."""

    async def drain(self) -> None:
        """Count and write everything accepted, within a bounded time, and accept no more."""


class ChunkConsumer(driver.Consumer):
    """A consumer whose events are chunks. Once there is one, all consumers of the process deliver columns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on unchanged
        super().__init__(*args, **kwargs)
        transport = cast("ChunkTransport", self.transport)
        self.positions = transport.positions
        self.chunk_bytes_max = transport.chunk_bytes_max
        self._next: dict[TP, int] = {}
        self._done: dict[TP, int] = {}
        #: Where records were missing when they were last fetched.
        self._missed: dict[TP, int] = {}
        self._seeks = 0
        deliver_columns(traced=transport.traced)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to the first record that the warehouse has not counted."""
        assigned = self.assignment()
        if not assigned:
            return {}
        starts = await self.earliest_offsets(*assigned)
        ends = await self.highwaters(*assigned)
        offsets = await self.positions.where(assigned, _plain(starts), _plain(ends), self._committed)
        self._seeks += 1
        self._done.clear()
        self._missed.clear()
        self._next = dict(offsets)
        await self.seek_wait(offsets)
        return offsets

    async def _committed(self, tp: TP) -> int | None:
        """Kafka's committed offset."""
        thread = self._thread
        client = thread._ensure_consumer()  # noqa: SLF001 - a subclass of its owner
        committed = await thread.call_thread(client.committed, driver.ensure_aiokafka_TP(tp))
        return None if committed is None else int(committed)

    async def log_ends(self, tps: set[TP], timeout_s: float) -> dict[TP, int]:
        """The ends of these partitions, told by the broker now. Raises ``KafkaError`` or ``TimeoutError``.

        The bound holds inside the consumer's thread, which does few things at once: fetches would wait behind this.
        """
        thread = self._thread
        client = thread._ensure_consumer()  # noqa: SLF001 - a subclass of its owner

        async def ask() -> Mapping[Any, int]:
            return await asyncio.wait_for(client.end_offsets([driver.ensure_aiokafka_TP(tp) for tp in tps]), timeout_s)

        return _plain(await thread.call_thread(ask))

    async def wait_empty(self) -> None:
        """Wait for writes in progress, then commit; called before partitions are revoked, and at the end."""
        if self.app.should_stop:
            await self.positions.drain()
        else:
            await self.positions.settle()
        await self.commit_and_end_transactions()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - Faust's signature
        """Yield one message per chunk."""
        seeks = self._seeks
        fetched, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not fetched or self.should_stop:
            return
        records = {TP(tp.topic, tp.partition): in_columns(items) for tp, items in fetched.items()}
        if seeks != self._seeks:
            # The consumer's thread may have fetched this before the seek or after it, though the flow be still stopped.
            # After it, the fetch has moved the position: without another seek these records would never be counted.
            await self._set_back(*records)
            return
        if not self.flow_active:
            # Drop what was fetched: a seek follows before the flow is resumed.
            return
        for tp, batch in records.items():
            if not await self._goes_on(tp, batch):
                continue
            for chunk in self._chunks(tp, batch):
                if not self.flow_active or self.app.consumer_generation_id != generation or seeks != self._seeks:
                    return
                self._next[tp] = chunk.end
                yield tp, _message(tp, chunk, generation)

    async def _set_back(self, *tps: TP) -> None:
        """Fetch these partitions again from where their next chunk begins."""
        try:
            await self.seek_wait({tp: self._next[tp] for tp in tps if tp in self._next})
        except IllegalStateError:
            _log.info("partitions were taken away; whoever has them next seeks first", partitions=sorted(tps))

    async def _goes_on(self, tp: TP, batch: Records) -> bool:
        """Whether these records go on from the chunk before.

        Records that are missing in between are fetched once more, as a fetch may have left them out. What is left out
        twice is not in the log; ``positions`` stops the worker if it was deleted before it was counted.
        """
        follows = self._next.get(tp)
        if follows is None:
            return False
        if batch.offsets[0] <= follows:
            return True
        if self._missed.get(tp) != follows:
            _log.warning("records were left out; fetching again", partition=tp.partition, at=follows)
            self._missed[tp] = follows
            await self._set_back(tp)
            return False
        starts = _plain(await self.earliest_offsets(tp))
        self.positions.check_start(tp, follows, starts[tp])
        return True

    def _chunks(self, tp: TP, batch: Records) -> Iterator[Chunk]:
        follows = self._next[tp]
        records = batch.since(follows)
        sizes = np.cumsum(records.sizes)
        first, before_bytes = 0, 0
        while first < len(records):
            # As many as are needed to reach the maximum, or all that are left.
            end = min(int(np.searchsorted(sizes, before_bytes + self.chunk_bytes_max)) + 1, len(records))
            size_bytes = int(sizes[end - 1])
            chunk = Chunk(follows, records[first:end], size_bytes - before_bytes)
            yield chunk
            first, before_bytes, follows = end, size_bytes, chunk.end

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: offsets between the ends of chunks were delivered inside chunks, or do not exist."""

    def ack(self, message: Message) -> bool:
        """Acknowledge everything up to the message's last record."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if message.generation_id == self.app.consumer_generation_id:
            self._done[message.tp] = max(message.offset + 1, self._done.get(message.tp, 0))
            self._n_acked += 1
        return True

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        return (tp for tp in list(self._done) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)


class ChunkTransport(driver.Transport):
    """Faust's Kafka transport with ``ChunkConsumer``. Set ``positions`` before the app starts."""

    Consumer: ClassVar[type[ChunkConsumer]] = ChunkConsumer
    positions: Positions
    chunk_bytes_max: int = 1 << 20
    #: Whether records bring the contexts of traced requests.
    traced: bool = False


def in_columns(items: Sequence[LogRecord | Records]) -> Records:
    """What a fetch brought of a partition, in one piece."""
    pieces: list[Sequence[LogRecord]] = []
    single: list[LogRecord] = []
    for item in items:
        if not isinstance(item, Records):
            single.append(item)
            continue
        if single:
            pieces.append(single)
            single = []
        pieces.append(item)
    return joined([*pieces, single] if single else pieces)


def _plain(offsets: Mapping[Any, int]) -> dict[TP, int]:
    return {TP(tp.topic, tp.partition): offset for tp, offset in offsets.items()}


def _message(tp: TP, chunk: Chunk, generation: int | None) -> ConsumerMessage:
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        chunk.end - 1,
        chunk.records[-1].timestamp_ms / 1000,
        _SET_BY_PRODUCER,
        None,
        None,
        cast("bytes", chunk),  # the raw serializer passes it on unchanged
        None,
        0,
        chunk.size_bytes,
        tp,
        generation_id=generation,
    )
