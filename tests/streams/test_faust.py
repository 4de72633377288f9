"""What streams/source/faust_consumer.py assumes of Faust. A new Faust that breaks one needs a look at all of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import faust
import pytest
from aiokafka.consumer import fetcher
from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.errors import LogMismatch
from streams.pipeline import within_log
from streams.source.chunk import LogRecord
from streams.source.faust_consumer import ChunkConsumer, ChunkTransport, LogRecords, Positions, TracedLogRecords


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_faust_is_of_the_version_that_was_read() -> None:
    assert faust.__version__.startswith("0.15.")


@pytest.mark.parametrize(
    "name",
    ["seek_to_committed", "getmany", "wait_empty", "ack", "_add_gap", "_new_offset", "_filter_tps_with_pending_acks",
     "_wait_next_records", "commit_and_end_transactions", "earliest_offsets", "highwaters", "seek_wait"],
)  # fmt: skip
def test_what_is_overridden_or_called_is_there(name: str) -> None:
    assert callable(getattr(driver.Consumer, name))


def test_faust_seeks_before_it_resumes_the_flow() -> None:
    resume = source(Recovery._resume_streams)
    assert resume.index("consumer.perform_seek()") < resume.index("consumer.resume_flow()")


def test_perform_seek_takes_the_positions_from_seek_to_committed() -> None:
    assert "await self.seek_to_committed()" in source(faust_consumer.Consumer.perform_seek)


def test_faust_reads_by_getmany_and_commits_what_new_offset_says() -> None:
    assert "getmany(timeout=1.0)" in source(faust_consumer.Consumer._drain_messages)
    assert "self._new_offset(tp)" in source(faust_consumer.Consumer._filter_committable_offsets)


def test_transport_builds_our_consumer() -> None:
    assert issubclass(ChunkConsumer, driver.Consumer)
    assert ChunkTransport.Consumer is ChunkConsumer


def record(offset: int) -> LogRecord:
    return LogRecord(offset, 1, b"x")


def fetched(
    made_by: type[LogRecords], *appended: tuple[bytes | None, list[tuple[str, bytes | None]]]
) -> list[LogRecord]:
    """What aiokafka's fetcher makes of a batch with these values and headers."""
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 16)
    for offset, (value, headers) in enumerate(appended):
        batch.append(offset, 1000 + offset, b"key", value, headers)
    log = MemoryRecords(bytes(batch.build()))
    return list(made_by(TopicPartition("clicks", 0), log, [], 0, None, None, True, fetcher.READ_UNCOMMITTED))


def test_fetcher_makes_every_record_by_what_is_overridden() -> None:
    assert "PartitionRecords(" in source(fetcher.Fetcher._proc_fetch_request)
    assert "self._consumer_record(tp, record)" in source(fetcher.PartitionRecords._unpack_records)


def test_record_is_its_offset_stamp_and_value_and_its_trace_where_traces_are_on() -> None:
    told: tuple[Any, ...] = (b"a", []), (None, [("x", b"y"), ("traceparent", b"00-1")]), (b"c", [("traceparent", None)])
    assert fetched(LogRecords, *told) == [LogRecord(0, 1000, b"a"), LogRecord(1, 1001, b""), LogRecord(2, 1002, b"c")]
    assert [one.traceparent for one in fetched(TracedLogRecords, *told)] == [b"", b"00-1", b""]


class BareConsumer(ChunkConsumer):
    """The consumer without the Faust around it, for what it computes itself."""

    log_begins_at = 0

    def __init__(self, chunk_bytes_max: int = 100) -> None:
        self._next, self._done, self._missed, self._seeks = {TP("clicks", 0): 5}, {}, {}, 0
        self.chunk_bytes_max = chunk_bytes_max
        self.positions = cast("Positions", self)
        self.sought: list[Mapping[TP, int]] = []

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self.sought.append(partitions)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, self.log_begins_at)

    def check_start(self, tp: TP, offset: int, start: int) -> None:
        within_log(tp, offset, start, offset)


def test_records_below_the_position_are_left_out_and_gaps_in_the_log_are_none() -> None:
    (chunk,) = BareConsumer()._chunks(TP("clicks", 0), [record(3), record(5), record(9)])
    assert [one.offset for one in chunk.records] == [5, 9]
    assert (chunk.follows, chunk.end) == (5, 10)


def test_long_runs_are_cut_and_each_chunk_goes_on_from_the_one_before() -> None:
    consumer = BareConsumer(chunk_bytes_max=2)
    chunks = list(consumer._chunks(TP("clicks", 0), [record(offset) for offset in range(5, 10)]))
    assert [(chunk.follows, chunk.end) for chunk in chunks] == [(5, 7), (7, 9), (9, 10)]


async def test_records_that_were_left_out_are_fetched_again_before_the_log_is_believed_to_have_none() -> None:
    consumer, clicks = BareConsumer(), TP("clicks", 0)
    assert await consumer._goes_on(clicks, [record(5), record(6)])
    assert await consumer._goes_on(clicks, [record(3), record(6)])
    assert consumer.sought == []
    assert not await consumer._goes_on(clicks, [record(8)])
    assert consumer.sought == [{clicks: 5}]
    assert await consumer._goes_on(clicks, [record(8)])
    assert not await consumer._goes_on(TP("clicks", 1), [record(0)])  # not taken over yet
    assert len(consumer.sought) == 1


async def test_records_that_were_deleted_before_they_were_counted_stop_the_worker() -> None:
    consumer, clicks = BareConsumer(), TP("clicks", 0)
    consumer.log_begins_at = 8
    assert not await consumer._goes_on(clicks, [record(8)])
    with pytest.raises(LogMismatch, match="records 5 to 7 were deleted before they were counted"):
        await consumer._goes_on(clicks, [record(8)])
