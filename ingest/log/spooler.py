"""Writes clicks to the spool while the broker is unavailable, and replays them in order when it is back.

Requests that arrive during a write are batched into the next one, so that one fsync serves many requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ingest.contract.rejection import Reason
from ingest.log.lane import BLOCK_MAX_BYTES, Placed, RequestClicks
from ingest.log.sender import BrokerUnavailable
from ingest.log.spool import Record, SpoolFull, open_slots
from ingest.metrics import Metrics
from ingest.runtime.backoff import backoff_s
from ingest.runtime.repeated import Repeated
from ingest.settings import IngestSettings

_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 2.0
#: Sends one block of a member hash's partition; raises ``BrokerUnavailable``.
SendBlocks = Callable[[list[Record]], Awaitable[None]]

_IN_SPOOL: Final = Placed(None, None, None)
_outages = Repeated(structlog.get_logger(__name__))


class Spooler:
    """Writes to this process's slot, and replays it and the slots that dead processes left behind.

    Clicks come here (``taking``) from when the broker fails until the spool's last records are being sent. After that
    they collect in the lanes, which wait until those records have arrived (``clear``). Otherwise, under steady traffic,
    the spool would never become empty.
    """

    def __init__(
        self,
        settings: IngestSettings,
        metrics: Metrics,
        *,
        interrupted: Callable[[], None],
        cleared: Callable[[], None],
    ) -> None:
        """Open the spool.

        ``interrupted`` is called when the last records did not arrive: it must move what waits behind them in the lanes
        to the spool, in order. ``cleared`` is called when they did: what waits in the lanes may be sent.
        """
        if settings.spool is None:
            raise ValueError("FLATTR_INGEST_SPOOL is not set")
        self._own, self._left = open_slots(
            settings.spool,
            max_bytes=settings.spool_max_bytes,
            segment_max_bytes=settings.spool_segment_bytes,
            fsync=settings.spool_fsync,
        )
        self._max_bytes = settings.spool_max_bytes
        self._pending_max_bytes = settings.queue_max_bytes
        self._metrics = metrics
        self._interrupted = interrupted
        self._cleared = cleared
        self._pending: list[RequestClicks] = []
        self._pending_bytes = 0
        self._finishing = False
        self._wanted = asyncio.Event()
        self._filled = asyncio.Event()
        #: Set while nothing is being written.
        self.idle = asyncio.Event()
        self.idle.set()
        #: Set while the broker has everything that was ever spooled: lanes may send.
        self.clear = asyncio.Event()
        self._note()

    @property
    def taking(self) -> bool:
        """Whether clicks must go here, behind older ones, even if the broker is available."""
        return not self.clear.is_set() and not self._finishing

    @property
    def full(self) -> bool:
        """Whether the spool accepts nothing more."""
        return self._own.waiting_bytes + self._pending_bytes >= self._max_bytes

    def put(self, chunk: RequestClicks) -> None:
        """Queue a request's clicks; it is answered once they are on disk, or at once if there is no room."""
        length = len(chunk.lines)
        if self._own.waiting_bytes + self._pending_bytes + length > self._max_bytes or (
            self._pending_bytes + length > self._pending_max_bytes
        ):
            chunk.tell(Reason.QUEUE_FULL)
            return
        self._pending.append(chunk)
        self._pending_bytes += length
        self.idle.clear()
        self.clear.clear()
        self._wanted.set()

    async def write(self) -> None:
        """Write queued clicks until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch, self._pending = self._pending, []
            records = [Record(chunk.member_hash, chunk.clicks, chunk.lines) for chunk in batch]
            place = await self._write(records)
            self._pending_bytes -= sum(len(record.lines) for record in records)
            if not self._pending:
                self.idle.set()
            self._note()
            for chunk in batch:
                chunk.tell(place)

    async def _write(self, records: list[Record]) -> Placed | Reason:
        try:
            await asyncio.to_thread(self._own.append, records)
        except SpoolFull as error:
            _outages.error("cannot write clicks to the spool; they are answered 503", reason=str(error))
            return Reason.QUEUE_FULL
        self._metrics.spooled += sum(record.clicks for record in records)
        return _IN_SPOOL

    async def replay(self, send: SendBlocks, connected: asyncio.Event) -> None:
        """Replay the spool to the broker whenever that is connected, until cancelled."""
        failures = 0
        while True:
            await self._filled.wait()
            await connected.wait()
            slots = (*self._left, self._own)
            oldest = next(slot for slot in slots if not slot.empty)
            try:
                records = await asyncio.to_thread(oldest.read)
            except OSError as error:
                _outages.error("cannot read the spool; retrying", reason=error.strerror)
                await asyncio.sleep(backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S))
                failures += 1
                continue
            rest = oldest.unread_bytes or any(not slot.empty for slot in slots if slot is not oldest)
            self._finishing = self.idle.is_set() and not rest
            try:
                await send(records)
            except BrokerUnavailable:
                self._finishing = False
                self._interrupted()
                # `send` clears `connected`; until then, do not spin.
                await asyncio.sleep(backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S))
                failures += 1
                continue
            failures = 0
            await asyncio.to_thread(oldest.release)
            self._metrics.replayed += sum(record.clicks for record in records)
            self._note()

    def close(self) -> None:
        """Close the slots; their contents stay for the next start."""
        self._own.close()
        for slot in self._left:
            slot.remove()

    def _note(self) -> None:
        slots = (self._own, *self._left)
        self._metrics.spool_bytes = sum(slot.waiting_bytes for slot in slots)
        self._metrics.spool_clicks = sum(slot.waiting_clicks for slot in slots)
        self._metrics.spool_damaged_bytes = sum(slot.damaged_bytes for slot in slots)
        self._metrics.spool_damaged_segments = sum(slot.damaged_segments for slot in slots)
        if any(not slot.empty for slot in slots):
            self._filled.set()
            self.clear.clear()
            return
        self._filled.clear()
        if self.idle.is_set():
            self._finishing = False
            self.clear.set()
            self._cleared()


def blocks_of(records: list[Record], partitions: int) -> list[list[tuple[int, bytes]]]:
    """Group records into rounds of (partition, block): one block per partition and round, in order."""
    blocks: dict[int, list[list[bytes]]] = {}
    lengths: dict[int, int] = {}
    for record in records:
        partition = record.member_hash % partitions
        of_partition = blocks.setdefault(partition, [])
        length = lengths.get(partition, 0) + len(record.lines) + 1
        if not of_partition or length > BLOCK_MAX_BYTES:
            of_partition.append([])
            length = len(record.lines) + 1
        of_partition[-1].append(record.lines)
        lengths[partition] = length
    rounds: list[list[tuple[int, bytes]]] = []
    for partition, of_partition in blocks.items():
        for number, block in enumerate(of_partition):
            if number == len(rounds):
                rounds.append([])
            rounds[number].append((partition, b"\n".join(block)))
    return rounds
