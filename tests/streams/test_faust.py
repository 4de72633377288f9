"""What streams/source/faust_consumer.py assumes of Faust. A new Faust that breaks one needs a look at all of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import cast

import faust
import pytest
from aiokafka.consumer import fetcher
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import LogMismatch
from streams.pipeline import within_log
from streams.source.chunk import LogRecord, Records
from streams.source.faust_consumer import ChunkConsumer, ChunkTransport, Positions


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


def records(*offsets: int) -> Records:
    return Records.of([LogRecord(offset, 1, b"x") for offset in offsets])


def test_fetcher_makes_every_record_by_what_is_overridden() -> None:
    fetches = source(fetcher.Fetcher._proc_fetch_request)
    assert "MemoryRecords(part_data[-1])" in fetches
    assert "PartitionRecords(" in fetches
    assert "self._consumer_record(tp, record)" in source(fetcher.PartitionRecords._unpack_records)


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
    (chunk,) = BareConsumer()._chunks(TP("clicks", 0), records(3, 5, 9))
    assert [one.offset for one in chunk.records] == [5, 9]
    assert (chunk.follows, chunk.end) == (5, 10)


def test_long_runs_are_cut_and_each_chunk_goes_on_from_the_one_before() -> None:
    consumer = BareConsumer(chunk_bytes_max=2)
    chunks = list(consumer._chunks(TP("clicks", 0), records(*range(5, 10))))
    assert [(chunk.follows, chunk.end) for chunk in chunks] == [(5, 7), (7, 9), (9, 10)]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), min_size=1), st.integers(0, 60), st.integers(1, 9))
def test_chunks_are_cut_where_their_bytes_reach_the_maximum(
    made: list[tuple[int, int]], follows: int, chunk_bytes_max: int
) -> None:
    consumer, offset = BareConsumer(chunk_bytes_max), 0
    consumer._next[TP("clicks", 0)] = follows
    batch = Records.of([LogRecord(offset := offset + step, 1, b"x" * size) for step, size in made])
    told: list[list[LogRecord]] = [[]]
    for one in batch:
        if one.offset >= follows:
            told[-1].append(one)
            if sum(len(each.value) for each in told[-1]) >= chunk_bytes_max:
                told.append([])
    chunks = list(consumer._chunks(TP("clicks", 0), batch))
    assert [list(chunk.records) for chunk in chunks] == [each for each in told if each]
    assert [chunk.size_bytes for chunk in chunks] == [sum(len(one.value) for one in each) for each in told if each]
    assert [chunk.follows for chunk in chunks] == [follows, *(chunk.end for chunk in chunks)][: len(chunks)]


async def test_records_that_were_left_out_are_fetched_again_before_the_log_is_believed_to_have_none() -> None:
    consumer, clicks = BareConsumer(), TP("clicks", 0)
    assert await consumer._goes_on(clicks, records(5, 6))
    assert await consumer._goes_on(clicks, records(3, 6))
    assert consumer.sought == []
    assert not await consumer._goes_on(clicks, records(8))
    assert consumer.sought == [{clicks: 5}]
    assert await consumer._goes_on(clicks, records(8))
    assert not await consumer._goes_on(TP("clicks", 1), records(0))  # not taken over yet
    assert len(consumer.sought) == 1


async def test_records_that_were_deleted_before_they_were_counted_stop_the_worker() -> None:
    consumer, clicks = BareConsumer(), TP("clicks", 0)
    consumer.log_begins_at = 8
    assert not await consumer._goes_on(clicks, records(8))
    with pytest.raises(LogMismatch, match="records 5 to 7 were deleted before they were counted"):
        await consumer._goes_on(clicks, records(8))
