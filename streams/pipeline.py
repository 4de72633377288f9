"""From chunks to acknowledged flushes: decode and count in one thread, write in another.

While one batch is written, the next is decoded and counted, and no more than that: ``take`` blocks until there is
room, which bounds memory. The state advances when a batch is counted, before it is written. So a counted batch is
written, or the worker stops, or (after a rebalance) its partition's state is dropped.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar

import structlog
from faust.types import TP

from ingest.contract.month import month_before, month_of
from ingest.contract.position import epoch_of, offset_of
from ingest.runtime.tracing import Traces
from streams.clicks.pseudonyms import ErasureList
from streams.clicks.rejections import rejections
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.errors import LogMismatch, StreamStopped
from streams.operating.malformed_guard import MalformedGuard
from streams.operating.metrics import Metrics
from streams.operating.tracing import BatchTrace, batch_trace
from streams.precompile import precompile
from streams.recovery import Recovery, load_partition
from streams.retry import patiently
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import Chunk, LogRecord, joined
from streams.state.memory import UNBOUNDED, Memory
from streams.state.partition import MonthState, PartitionState
from warehouse.storage.client import Warehouse

_log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Assignment:
    """One partition while this worker owns it; replaced at every rebalance."""

    state: PartitionState
    expected: int
    alive: bool = True
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Pending:
    assignment: Assignment
    chunk: Chunk
    acknowledge: Callable[[], object]
    #: By the monotonic clock: the flush is due ``flush_ms`` later, however long the batch before it takes.
    taken_at_s: float = field(default_factory=time.monotonic)


class Pipeline:
    """Counts the chunks of this worker's partitions."""

    def __init__(  # noqa: PLR0913 - dependencies and settings, by name
        self,
        warehouse: Warehouse,
        writer: Writer,
        rules: CountingRules,
        clock: Callable[[], int],
        *,
        flush_ms: int,
        flush_bytes: int,
        drain_s: float,
        fail: Callable[[StreamStopped], None],
        malformed: MalformedGuard,
        ask_partitions: Callable[[], None] = lambda: None,
        memory: Memory = UNBOUNDED,
        metrics: Metrics,
        traces: Traces | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._writer = writer
        self._rules = rules
        self._clock = clock
        self._flush_s = flush_ms / 1000
        self._flush_bytes = flush_bytes
        self._drain_s = drain_s
        self._fail = fail
        self._malformed = malformed
        #: Raises when members' clicks go to other partitions than this worker believes.
        self._ask_partitions = ask_partitions
        self._metrics = metrics
        self._traces = traces
        #: Each partition's next offset to count, according to progress.
        self.counted: dict[int, int] = {}
        self.taken_over = False
        self._erased = ErasureList(warehouse)
        self._recovery = Recovery(warehouse, rules.partitions, writer.write, self._erased.newest, memory)
        self.assignments: dict[int, Assignment] = {}
        self._pending: list[_Pending] = []
        self._pending_bytes = 0
        self._changed = asyncio.Condition()
        self._busy = 0
        self._stopping = False
        self._broken = False
        self._count_thread = ThreadPoolExecutor(1, "count")
        self._write_thread = ThreadPoolExecutor(1, "write")
        self._writing: asyncio.Task[None] | None = None

    async def take(self, tp: TP, chunk: Chunk, acknowledge: Callable[[], object]) -> None:
        """Accept a chunk; waits while too much is queued. Raises ``StreamStopped`` when chunks were skipped."""
        assignment = self.assignments.get(tp.partition)
        if assignment is None or not assignment.alive:
            return
        if chunk.follows != assignment.expected:
            raise StreamStopped(
                f"partition {tp.partition}: got a chunk from offset {chunk.follows} instead of {assignment.expected}; "
                "the worker stops rather than skip clicks"
            )
        assignment.expected = chunk.end
        async with self._changed:
            self._pending.append(_Pending(assignment, chunk, acknowledge))
            self._pending_bytes += chunk.size_bytes
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._pending_bytes < 2 * self._flush_bytes or not assignment.alive)

    def holding(self) -> set[int]:
        """The partitions of which something is taken and not written; all, while too much is queued to take more."""
        full = self._pending_bytes >= 2 * self._flush_bytes
        return {
            number for number, each in self.assignments.items() if full or each.expected != self.counted.get(number)
        }

    async def take_rejections(self, tp: TP, chunk: Chunk) -> None:
        """Write a chunk of the topic `rejected`. Raises ``StreamStopped``."""
        await _in_thread(self._write_thread, self._write_rejections, tp.partition, chunk)

    async def run(self) -> None:
        """Count and write until stopped. A failure is reported and ends the worker."""
        await _in_thread(self._count_thread, precompile)
        try:
            while not self._broken:
                await self._count_and_write(await self._next_batch())
        except Exception as error:  # noqa: BLE001 - after any error, continuing would skip clicks
            self._report(error)

    def _report(self, error: Exception) -> None:
        # Write nothing more: progress would move past the failed batch.
        self._broken = True
        self._drop_all()
        if isinstance(error, StreamStopped):
            self._fail(error)
        else:
            _log.exception("counting failed")
            self._fail(StreamStopped(f"counting failed: {error!r}"))

    async def where(
        self,
        partitions: set[TP],
        starts: Mapping[TP, int],
        ends: Mapping[TP, int],
        committed: Callable[[TP], Awaitable[int | None]],
    ) -> dict[TP, int]:
        """Take these partitions over and return the offset from which to read each. Raises ``LogMismatch``."""
        await self.settle()
        offsets = {}
        taken: dict[int, Assignment] = {}
        for tp in sorted(partitions):
            if tp.topic != self._rules.topic:
                at = await committed(tp)
                offsets[tp] = at if at is not None and starts[tp] <= at <= ends[tp] else starts[tp]
                continue
            state = await _in_thread(self._write_thread, self._state_of, tp.partition)
            try:
                offset = next_offset(state, self._rules.epoch, tp, starts[tp], ends[tp])
            except LogMismatch as error:
                self._fail(error)
                raise
            offsets[tp] = offset
            taken[tp.partition] = Assignment(state, offset)
        self._drop_all()
        self.assignments = taken
        self.counted = {tp.partition: offsets[tp] for tp in offsets if tp.topic == self._rules.topic}
        self.taken_over = True
        self._count_thread.submit(self._preload, list(taken.values()))
        _log.info("partitions assigned", partitions=sorted(taken))
        return offsets

    def check_start(self, tp: TP, offset: int, start: int) -> None:
        """Raises ``LogMismatch``, and stops the worker, if clicks were deleted before they were counted."""
        if tp.topic != self._rules.topic:
            return
        try:
            within_log(tp, offset, start, offset)
        except LogMismatch as error:
            self._fail(error)
            raise

    async def settle(self) -> None:
        """Drop what is not counted yet, and wait up to ``drain_s`` for the write in progress."""
        async with self._changed:
            self._pending.clear()
            self._pending_bytes = 0
            self._changed.notify_all()
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self._busy == 0), self._drain_s)
            except TimeoutError:
                _log.warning("a write is still in progress; its partitions are reloaded from the warehouse")
                self._drop_all()

    async def drain(self) -> None:
        """Count and write everything accepted so far, then accept no more: for a worker that stops."""
        async with self._changed:
            self._stopping = True
            self._changed.notify_all()
            if self._broken:
                return
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: self._busy == 0 and not self._pending), self._drain_s
                )
            except TimeoutError:
                _log.warning("stopped during a write; the next worker counts it again")

    def close(self) -> None:
        """Stop the threads. A write in progress still finishes."""
        self._drop_all()
        self._write_thread.submit(self._writer.close)  # behind that write, which needs the lanes
        for thread in (self._count_thread, self._write_thread):
            thread.submit(self._warehouse.close)
            thread.shutdown(wait=False)

    def _drop_all(self) -> None:
        for assignment in self.assignments.values():
            assignment.alive = False
        self.assignments = {}

    def _state_of(self, partition: int) -> PartitionState:
        """The state in memory if it matches the warehouse's progress; otherwise a new one."""
        stored = patiently(load_partition, self._warehouse, partition)
        current = self.assignments.get(partition)
        if current is not None and current.alive and current.state.position == stored.position:
            return current.state
        return stored

    async def _next_batch(self) -> list[_Pending]:
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._pending) or self._stopping)
            while self._pending and not self._stopping and self._pending_bytes < self._flush_bytes:
                left_s = self._pending[0].taken_at_s + self._flush_s - time.monotonic()
                if left_s <= 0:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left_s)
            if self._stopping and not self._pending:
                await self._changed.wait_for(lambda: bool(self._pending))
            batch, self._pending = self._pending, []
            self._pending_bytes = 0
            self._busy += 1  # even if settle has emptied the batch, since every batch ends in _done
            self._changed.notify_all()
            return batch

    async def _count_and_write(self, batch: list[_Pending]) -> None:
        trace = None if self._traces is None else batch_trace(self._traces, (pending.chunk for pending in batch))
        try:
            rows = await _in_thread(self._count_thread, self._count, batch)
            if trace is not None:
                trace.counted(rows.clicks)
            if self._writing is not None:
                await self._writing
        except BaseException:
            await self._done()
            raise
        if self._broken:
            await self._done()
            return
        self._writing = asyncio.create_task(self._write(batch, rows, trace))

    async def _write(self, batch: list[_Pending], rows: Rows, trace: BatchTrace | None) -> None:
        started = time.monotonic()
        try:
            await _in_thread(self._write_thread, self._writer.write, rows, trace)
            for pending in batch:
                if pending.assignment.alive:
                    pending.acknowledge()
                    self.counted[pending.assignment.state.number] = pending.chunk.end
            self._metrics.flushes.inc()
            self._metrics.clicks.inc(rows.clicks)
            self._metrics.flush_s.observe(time.monotonic() - started)
            if trace is not None:
                trace.end()
        except Exception as error:  # noqa: BLE001 - after any error, continuing would skip clicks
            if trace is not None:
                trace.end(error)
            self._report(error)
        finally:
            await self._done()

    async def _done(self) -> None:
        async with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def _preload(self, assignments: list[Assignment]) -> None:
        """Load the months that clicks are likely to need, before the first click has to wait for them."""
        began = time.monotonic()
        try:
            wanted: dict[int, list[PartitionState]] = {}
            for state in (each.state for each in assignments if each.alive):
                # Else its first clicks would wait for its months, one partition after the other.
                month = month_of(state.record_at_ms if state.position >= 0 else self._clock())
                for needed in {month_before(month), month} - set(state.months):
                    wanted.setdefault(needed, []).append(state)
            for needed, states in sorted(wanted.items()):
                for state, loaded in zip(states, self._load(states, needed), strict=True):
                    state.months[needed] = loaded
        except Exception as error:  # noqa: BLE001 - after any error, counting without the state would be wrong
            self._report(error)
            return
        flattrs = sum(assignment.state.flattrs for assignment in assignments)
        _log.info("state recovered", flattrs=flattrs, seconds=round(time.monotonic() - began, 3))

    def _load(self, states: Sequence[PartitionState], month: int) -> list[MonthState]:
        return patiently(self._recovery.load, states, month)

    def _load_one(self, state: PartitionState, month: int) -> MonthState:
        return self._load([state], month)[0]

    def _write_rejections(self, partition: int, chunk: Chunk) -> None:
        erased = patiently(self._erased.current)
        self._writer.write(rejections(partition, chunk, self._rules.epoch, erased))

    def _count(self, batch: list[_Pending]) -> Rows:
        rows = Rows()
        rules = replace(
            self._rules, erased=patiently(self._erased.current), raw_max_bytes=self._malformed.raw_max_bytes
        )
        by_assignment: dict[Assignment, list[Sequence[LogRecord]]] = {}
        for pending in batch:
            if pending.assignment.alive:
                by_assignment.setdefault(pending.assignment, []).append(pending.chunk.records)
        for assignment, pieces in by_assignment.items():
            state = assignment.state
            before = state.position
            count_records(state, joined(pieces), rules, functools.partial(self._load_one, state), rows)
            if state.position != before:
                add_progress(state, self._clock(), rows)
        if rows.misplaced:
            self._ask_partitions()
        self._metrics.malformed.inc(rows.malformed)
        self._metrics.malformed_share.set(self._malformed.watch(rows.clicks, rows.malformed))
        return rows


def next_offset(state: PartitionState, epoch: int, tp: TP, start: int, end: int) -> int:
    """The offset after the state's position. Raises ``LogMismatch`` if the log does not continue from there."""
    counted_epoch, counted = epoch_of(state.position), offset_of(state.position)
    if state.position < 0:
        return within_log(tp, 0, start, end)
    if counted_epoch < epoch:
        return start
    if counted_epoch > epoch:
        raise LogMismatch(
            f"{tp.topic} partition {tp.partition} is counted in log epoch {counted_epoch}, but this worker is "
            f"configured for epoch {epoch}: set FLATTR_LOG_EPOCH={counted_epoch}"
        )
    return within_log(tp, counted + 1, start, end)


def within_log(tp: TP, offset: int, start: int, end: int) -> int:
    """The offset. Raises ``LogMismatch`` if the log, from start to end, does not contain it."""
    if offset > end:
        raise LogMismatch(
            f"{tp.topic} partition {tp.partition} is counted up to offset {offset - 1}, but the log ends at {end}: "
            "if the topic was recreated, raise FLATTR_LOG_EPOCH by one; if the broker is wrong, correct FLATTR_BROKER"
        )
    if offset < start:
        raise LogMismatch(
            f"{tp.topic} partition {tp.partition} begins at offset {start}, but the next to count is {offset}: records "
            f"{offset} to {start - 1} were deleted before they were counted. Restore them, or accept the loss by "
            "raising FLATTR_LOG_EPOCH by one"
        )
    return offset


async def _in_thread(thread: ThreadPoolExecutor, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, functools.partial(call, *arguments, **named))
