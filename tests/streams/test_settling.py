"""Giving partitions back: what is not counted is dropped, what is being written is waited for, and no longer."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from faust.types import TP

from ingest.contract.month import month_before, month_of
from streams.counting.count_batch import CountingRules
from streams.operating.malformed_guard import MalformedGuard
from streams.operating.metrics import Metrics
from streams.pipeline import Pipeline
from streams.sink.writer import Writer
from streams.source.chunk import Chunk, LogRecord
from warehouse.storage.client import Warehouse

DRAIN_S = 3.0


def pipeline_of(warehouse: Warehouse, *, flush_ms: int) -> Pipeline:
    return Pipeline(
        warehouse, Writer(warehouse, patience_s=5), CountingRules(1, 0, 1000, "clicks"), lambda: 0,
        flush_ms=flush_ms, flush_bytes=1 << 20, drain_s=DRAIN_S, fail=lambda _: None,
        malformed=MalformedGuard(0.5), metrics=Metrics(),
    )  # fmt: skip


async def committed(_: TP) -> int | None:
    return None


async def ended(pipeline: Pipeline, running: asyncio.Task[None]) -> None:
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    pipeline.close()


async def test_a_second_rebalance_waits_for_nothing_after_one_that_came_between_two_flushes(
    warehouse: Warehouse,
) -> None:
    tp = TP("clicks", 0)
    pipeline = pipeline_of(warehouse, flush_ms=50)
    running = asyncio.create_task(pipeline.run())
    await pipeline.where({tp}, {tp: 0}, {tp: 10}, committed)
    written = asyncio.Event()
    await pipeline.take(tp, Chunk(0, (LogRecord(0, 1, b"rubbish"),), 7), written.set)
    await written.wait()
    first = pipeline._writing
    await pipeline.take(tp, Chunk(1, (LogRecord(1, 1, b"rubbish"),), 7), lambda: None)
    for _ in range(10):
        await asyncio.sleep(0)  # so many turns of the loop: the batcher has seen it and waits for company
    await pipeline.settle()
    # What was waiting is gone; the flush that it would have been in comes about empty.
    async with asyncio.timeout(10), pipeline._changed:
        await pipeline._changed.wait_for(lambda: pipeline._writing is not first)
    assert pipeline._writing is not None
    await pipeline._writing
    began = time.monotonic()
    await pipeline.settle()
    assert time.monotonic() - began < DRAIN_S / 2
    await ended(pipeline, running)


async def test_a_partition_without_clicks_has_the_months_of_the_clock_before_its_first(warehouse: Warehouse) -> None:
    tp = TP("clicks", 0)
    pipeline = pipeline_of(warehouse, flush_ms=50)
    await pipeline.where({tp}, {tp: 0}, {tp: 10}, committed)
    await asyncio.wrap_future(pipeline._count_thread.submit(lambda: None))
    assert sorted(pipeline.assignments[0].state.months) == [month_before(month_of(0)), month_of(0)]
    pipeline.close()


async def test_a_chunk_that_came_while_another_was_counted_does_not_wait_as_long_again(warehouse: Warehouse) -> None:
    tp = TP("clicks", 0)
    pipeline = pipeline_of(warehouse, flush_ms=1000)
    running = asyncio.create_task(pipeline.run())
    await pipeline.where({tp}, {tp: 0}, {tp: 10}, committed)
    written: dict[int, float] = {}
    both = asyncio.Event()

    def acknowledged(number: int) -> None:
        written[number] = time.monotonic()
        if len(written) == 2:
            both.set()

    pipeline._count_thread.submit(time.sleep, 2.5)  # counting the first takes until then
    await pipeline.take(tp, Chunk(0, (LogRecord(0, 1, b"rubbish"),), 7), lambda: acknowledged(0))
    await asyncio.sleep(1.2)
    await pipeline.take(tp, Chunk(1, (LogRecord(1, 1, b"rubbish"),), 7), lambda: acknowledged(1))
    await asyncio.wait_for(both.wait(), 20)
    assert written[1] - written[0] < 0.9
    await ended(pipeline, running)
