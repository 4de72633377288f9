"""What a fetch brought, as columns: Kafka's batches of records, decoded by one compiled loop each.

aiokafka makes a Python object of every record, and its consumer another. Here a batch of the one form that our
producers write is decoded into columns over the bytes of the fetch (streams/source/chunk.py). Everything else is left
to aiokafka, record by record: small, compressed, transactional and control batches, older formats, records with
headers, and whatever is damaged. So this decides nothing: tests/streams/test_fetched.py holds what it accepts to
aiokafka's parser, byte by byte. Checksums, aborted transactions and the position of the next fetch stay with aiokafka
in any case, for a decoded batch is for its loop a batch with one long record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import DefaultRecordBatch

from ingest.runtime.tracing import HEADER
from streams.source.chunk import LogRecord, Records
from streams.state.hash_table import I64, U8, compiled

_HEADER_BYTES: Final = 61
#: Where a batch says its length, from its first byte on, and how many bytes that length does not include.
_LENGTH_AT: Final = 8
_BEFORE_LENGTH_BYTES: Final = 12
_COUNT_AT: Final = 57
#: Six numbers of a byte at least, and no header.
_RECORD_BYTES_MIN: Final = 7
#: Sums of two such numbers fit.
_SUMMAND_MAX: Final = 1 << 62
_OFFSET_DELTA_MAX: Final = (1 << 31) - 1
#: A tenth byte could say more than 63 bits.
_VARINT_BYTES_MAX: Final = 9


class Decoded(NamedTuple):
    """The records of a batch, with the offset of the last."""

    offset: int
    records: Records


class FetchedBatches:
    """aiokafka's ``MemoryRecords``, whose batches are decoded where they can be."""

    #: With fewer, to decode a batch takes longer than to make objects of its records.
    records_min: ClassVar = 24

    def __init__(self, data: bytes) -> None:
        self._batches: Any = MemoryRecords(data)
        self._data = data
        self._at = 0

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return bool(self._batches.has_next())

    def size_in_bytes(self) -> int:
        """All that was fetched, a batch that is cut included."""
        return int(self._batches.size_in_bytes())

    def next_batch(self) -> object:
        """The next batch, as aiokafka's loop takes it."""
        batch = self._batches.next_batch()
        begin = self._at
        self._at = begin + _BEFORE_LENGTH_BYTES + _int32(self._data, begin + _LENGTH_AT)
        # No attributes: not compressed, stamped by the producer, outside of transactions, and no control batch.
        if (
            isinstance(batch, DefaultRecordBatch)
            and not batch.attributes
            and _int32(self._data, begin + _COUNT_AT) >= self.records_min
        ):
            return PlainBatch(batch, self._data, begin, self._at)
        return batch


class PlainBatch:
    """A batch that gives all its records in one where they are plain, and else one by one as aiokafka does."""

    def __init__(self, batch: Any, data: bytes, begin: int, end: int) -> None:  # noqa: ANN401 - aiokafka's compiled batch
        self._batch = batch
        self._data = data
        self._begin = begin
        self._end = end

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever aiokafka's batch knows about itself
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        batch = self._batch
        records = records_of(self._data, self._begin, self._end, batch.base_offset, batch.first_timestamp)
        if records is None:
            return iter(batch)
        return iter([Decoded(int(records.offsets[-1]), records)] if len(records) else [])


class LogRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """The records of one fetch, as this package reads them: each item is a ``LogRecord`` or many as ``Records``."""

    next_fetch_offset: int

    def _consumer_record(self, _tp: object, record: Any) -> LogRecord | Records:  # noqa: ANN401 - of aiokafka's compiled parser
        if isinstance(record, Decoded):
            records = record.records
            return records if records.offsets[0] >= self.next_fetch_offset else records.since(self.next_fetch_offset)
        return LogRecord(record.offset, record.timestamp, record.value or b"")


class TracedLogRecords(LogRecords):
    """With the contexts of traced requests, which stand in headers."""

    def _consumer_record(self, tp: object, record: Any) -> LogRecord | Records:  # noqa: ANN401 - of aiokafka's compiled parser
        if isinstance(record, Decoded):
            return super()._consumer_record(tp, record)
        told = dict(record.headers).get(HEADER) or b""
        return LogRecord(record.offset, record.timestamp, record.value or b"", told)


def deliver_columns(*, traced: bool) -> None:
    """Have all of aiokafka's consumers of this process deliver what ``LogRecords`` makes of a fetch."""
    records_of(bytes(_HEADER_BYTES), 0, _HEADER_BYTES, 0, 0)  # compiled later, it would hold up the group's heartbeats
    fetcher.MemoryRecords = FetchedBatches
    fetcher.PartitionRecords = TracedLogRecords if traced else LogRecords


def records_of(data: bytes, begin: int, end: int, base_offset: int, first_ms: int) -> Records | None:
    """The records of the batch in ``data[begin:end]``, or None if they are left to aiokafka."""
    at = begin + _HEADER_BYTES
    if end > len(data) or at > end or not 0 <= base_offset < _SUMMAND_MAX or not 0 <= first_ms < _SUMMAND_MAX:
        return None
    count = _int32(data, begin + _COUNT_AT)
    if not 0 <= count * _RECORD_BYTES_MIN <= end - at:
        return None
    offsets, stamps_ms, starts, ends = (np.empty(count, np.int64) for _ in range(4))
    if not _decode(np.frombuffer(data, np.uint8), at, end, base_offset, first_ms, offsets, stamps_ms, starts, ends):
        return None
    return Records(data, offsets, stamps_ms, starts, ends)


def _int32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big", signed=True)


@compiled
def _decode(  # noqa: PLR0913, PLR0917 - from where, to where
    data: U8, at: int, end: int, base_offset: int, first_ms: int, offsets: I64, stamps_ms: I64, starts: I64, ends: I64
) -> bool:
    """Fill the columns; False if anything is unusual. Nothing at or behind ``end`` is read."""
    before = -1
    for n in range(len(offsets)):
        at, length = _varint(data, at, end)
        if at < 0 or length < 0 or length > end - at:
            return False
        stop = at + length
        if at == stop or data[at] != 0:  # attributes
            return False
        at, after_ms = _varint(data, at + 1, stop)
        at, delta = _varint(data, at, stop)
        if at < 0 or delta <= before or delta > _OFFSET_DELTA_MAX:
            return False
        before = delta
        at = _behind(data, at, stop)[1]  # the key
        start, at = _behind(data, at, stop)
        if at < 0 or at != stop - 1 or data[at] != 0:  # the number of headers
            return False
        offsets[n], stamps_ms[n], starts[n], ends[n] = base_offset + delta, first_ms + after_ms, start, at
        at = stop
    return at == end


@compiled
def _behind(data: U8, at: int, stop: int) -> tuple[int, int]:
    """Where the bytes begin whose number stands at ``at``, and the place behind them, or -1."""
    at, size = _varint(data, at, stop)
    if at < 0 or size < -1 or size > stop - at:
        return -1, -1
    return at, at + max(size, 0)


@compiled
def _varint(data: U8, at: int, stop: int) -> tuple[int, int]:
    """The place behind the number at ``at``, or -1; and the number."""
    if at < 0:
        return -1, 0
    value = 0
    for index in range(_VARINT_BYTES_MAX):
        if at >= stop:
            return -1, 0
        byte = data[at]
        at += 1
        value |= int(np.int64(byte & 0x7F)) << (7 * index)
        if byte < 0x80:
            return at, (value >> 1) ^ -(value & 1)
    return -1, 0
