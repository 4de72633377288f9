"""A fetch in columns is what aiokafka's parser makes of it, whatever the bytes are."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.source import fetched
from streams.source.chunk import LogRecord, Records
from streams.source.faust_consumer import in_columns
from streams.source.fetched import FetchedBatches, LogRecords, TracedLogRecords

Headers = list[tuple[str, bytes | None]]
Made = tuple[bytes | None, Headers]
_HEADER_BYTES = 61


def batch(  # noqa: PLR0913 - what a batch says about itself
    made: list[Made], *, base: int = 0, at_ms: int = 1000, step_ms: int = 1, codec: int = 0, key: bytes | None = b"key",
    attributes: int = 0, deltas: list[int] | None = None, producer_id: int = -1,
) -> bytes:  # fmt: skip
    """A batch of Kafka's second format, as it stands in the log."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, producer_id, -1, -1, 1 << 20)
    for number, (value, headers) in enumerate(made):
        offset = number if deltas is None else deltas[number]
        assert builder.append(offset, at_ms + number * step_ms, key, value, headers) is not None
    data = bytearray(builder.build())
    data[0:8] = base.to_bytes(8, "big")
    data[22] |= attributes
    return sealed(data)


def sealed(data: bytes | bytearray) -> bytes:
    """With the checksum of what stands in it."""
    checksum: int = calc_crc32c(bytes(data[21:]))
    return bytes(data[:17]) + checksum.to_bytes(4, "big") + bytes(data[21:])


def unpacked(  # noqa: PLR0913 - what a fetch is asked for
    kind: type[Any], batches: Any, *, start: int = 0, aborted: tuple[tuple[int, int], ...] = (),
    isolation: int = fetcher.READ_UNCOMMITTED, crcs: bool = True,
) -> tuple[list[Any], int, str]:  # fmt: skip
    """The items of a fetch, where the next one begins, and the error that ended it."""
    items: list[Any] = []
    made = kind(TopicPartition("clicks", 0), batches, list(aborted), start, None, None, crcs, isolation)
    try:
        items.extend(made)
    except Exception as error:  # noqa: BLE001 - damaged bytes raise whatever a codec raises
        return items, made.next_fetch_offset, f"{type(error).__name__}: {error}"
    return items, made.next_fetch_offset, ""


class OneByOne(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's own way, with nothing of ours in it but the record."""

    def _consumer_record(self, _tp: object, record: Any) -> LogRecord:
        told = dict(record.headers).get("traceparent") or b""
        return LogRecord(record.offset, record.timestamp, record.value or b"", told)


class EveryBatch(FetchedBatches):
    """Decodes small batches, too."""

    records_min = 0


def compared(data: bytes, **asked: Any) -> list[Any]:
    """The items in columns, which have to be those of aiokafka one by one."""
    told = unpacked(OneByOne, MemoryRecords(data), **asked)
    items, next_offset, error = unpacked(TracedLogRecords, EveryBatch(data), **asked)
    assert (next_offset, error) == told[1:]
    found = in_columns(items)
    assert list(found) == told[0]
    assert [found[index] for index in range(len(found))] == told[0]
    assert all(found.data[end] == 0 for end in found.ends.tolist())
    return items


def in_pieces(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, Records) for item in items)


PLAIN: list[Made] = [(b"a", []), (b"", []), (None, []), (b"d" * 300, [])]


def test_plain_batches_are_columns_over_the_bytes_of_the_fetch() -> None:
    data = batch(PLAIN) + batch(PLAIN, base=4, key=None) + batch(PLAIN, base=9)
    items = compared(data)
    assert in_pieces(items)
    assert len(items) == 3
    found = in_columns(items)
    assert found.data is data
    assert found.offsets.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]


def test_small_batches_are_left_to_aiokafka() -> None:
    many: list[Made] = [(b"a", [])] * FetchedBatches.records_min
    data = batch(many[1:]) + batch(many, base=len(many))
    items = unpacked(LogRecords, FetchedBatches(data))[0]
    assert [isinstance(item, Records) for item in items] == [False] * (len(many) - 1) + [True]
    assert list(in_columns(items)) == unpacked(OneByOne, MemoryRecords(data))[0]


def test_record_is_its_offset_stamp_and_value_and_its_trace_where_traces_are_on() -> None:
    data = batch([(b"a", []), (None, [("x", b"y"), ("traceparent", b"00-1")]), (b"c", [("traceparent", None)])])
    untraced = unpacked(LogRecords, EveryBatch(data))[0]
    assert untraced == [LogRecord(0, 1000, b"a"), LogRecord(1, 1001, b""), LogRecord(2, 1002, b"c")]
    assert [one.traceparent for one in compared(data)] == [b"", b"00-1", b""]


@pytest.mark.parametrize("start", range(7))
def test_records_below_the_position_are_left_out(start: int) -> None:
    compared(batch(PLAIN) + batch(PLAIN, base=4, deltas=[0, 2, 3, 7]), start=start)


def test_holes_of_a_compacted_log_are_none_and_the_next_fetch_is_behind_them() -> None:
    made = bytearray(batch(PLAIN, deltas=[1, 2, 5, 9]))
    made[23:27] = (14).to_bytes(4, "big")
    assert in_pieces(compared(sealed(made)))
    assert unpacked(LogRecords, EveryBatch(sealed(made)))[1] == 15
    empty = bytearray(made[:_HEADER_BYTES])
    empty[8:12] = (_HEADER_BYTES - 12).to_bytes(4, "big")
    empty[57:61] = bytes(4)
    assert compared(sealed(empty)) == []


def test_stamps_may_fall_and_may_be_before_1970() -> None:
    assert in_pieces(compared(batch(PLAIN, at_ms=3, step_ms=-2)))
    compared(batch(PLAIN, at_ms=-5))


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_compressed_batches_are_read_by_aiokafka(codec: int) -> None:
    items = compared(batch(PLAIN) + batch(PLAIN, base=4, codec=codec) + batch(PLAIN, base=8))
    assert [len(item) if isinstance(item, Records) else item.offset for item in items] == [4, 4, 5, 6, 7, 4]


def test_older_formats_are_read_by_aiokafka() -> None:
    for magic in (0, 1):
        builder = LegacyRecordBatchBuilder(magic, 0, 1 << 16)
        for offset, value in enumerate((b"a", None, b"c")):
            builder.append(offset, 1000, b"key", value)
        items = unpacked(LogRecords, EveryBatch(bytes(builder.build())))[0]
        assert [(item.offset, item.value) for item in items] == [(0, b"a"), (1, b""), (2, b"c")]


@pytest.mark.parametrize("attributes", [0x08, 0x10, 0x20, 0x30, 0x40])
@pytest.mark.parametrize("isolation", [fetcher.READ_UNCOMMITTED, fetcher.READ_COMMITTED])
def test_control_batches_and_aborted_transactions_are_as_in_aiokafka(attributes: int, isolation: int) -> None:
    data = batch(PLAIN, producer_id=7)
    data += batch([(b"v", [])], base=4, attributes=attributes, key=b"\0\0\0\0", producer_id=7)
    data += batch(PLAIN, base=5, attributes=0x10, producer_id=7) + batch(PLAIN, base=9, producer_id=8)
    compared(data, aborted=((7, 4),), isolation=isolation)
    compared(data, isolation=isolation)


def test_damaged_batch_ends_the_fetch_as_it_does_in_aiokafka() -> None:
    data = bytearray(batch(PLAIN) + batch(PLAIN, base=4))
    data[-3] ^= 1
    compared(bytes(data))
    compared(bytes(data), crcs=False)


VALUES = st.none() | st.binary(max_size=200)
HEADERS: st.SearchStrategy[Headers] = st.just([]) | st.lists(
    st.tuples(st.sampled_from(["x", "traceparent"]), st.none() | st.binary(max_size=5)), max_size=2
)


@st.composite
def fetches(draw: Callable[[Any], Any]) -> tuple[bytes, int]:
    """Batches one behind the other, and where they begin."""
    start = offset = draw(st.integers(0, 1 << 40))
    data = b""
    for _ in range(draw(st.integers(1, 3))):
        made = draw(
            st.lists(st.tuples(VALUES, HEADERS if draw(st.booleans()) else st.just([])), min_size=1, max_size=5)
        )
        gaps = draw(st.lists(st.integers(1, 300), min_size=len(made), max_size=len(made)))
        deltas = [sum(gaps[:index]) for index in range(len(made))]
        data += batch(
            made, base=offset, deltas=deltas, codec=draw(st.sampled_from([0, 0, 0, 3])),
            at_ms=draw(st.integers(0, 1 << 45)), step_ms=draw(st.integers(-1000, 1 << 40)),
            key=draw(st.none() | st.binary(max_size=3)),
        )  # fmt: skip
        offset += deltas[-1] + draw(st.integers(1, 5))
    return data, start


@given(fetches(), st.integers(0, 20), st.floats(0, 1))
def test_any_batches_cut_anywhere_are_what_aiokafka_reads(fetch: tuple[bytes, int], skipped: int, cut: float) -> None:
    data, start = fetch
    compared(data, start=start + skipped)
    compared(data[: int(cut * len(data))], start=start + skipped)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The batch with some bytes behind its header replaced, taken out or put in, and a length that fits."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(_HEADER_BYTES - (4 if rng.random() < 0.1 else 0), len(out))
        how = rng.randrange(4)
        if how == 0:
            out[at] = rng.choice([0, 1, 2, 3, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif how == 1 and len(out) > _HEADER_BYTES + 1:
            del out[at : at + rng.randrange(1, 3)]
        elif how == 2:
            out[at:at] = rng.choice([b"\0", b"\x01", b"\xff" * 10, b"\x80\0", rng.randbytes(2)])
        else:
            out[at] = (out[at] + rng.choice([-2, -1, 1, 2])) % 256
    out[8:12] = (len(out) - 12).to_bytes(4, "big")
    return sealed(out)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_records_are_columns_only_if_aiokafka_reads_the_same(seed: int) -> None:
    rng, taken = random.Random(seed), 0
    for _ in range(300):
        made: list[Made] = [
            (rng.choice([None, b"", rng.randbytes(rng.randrange(4))]), []) for _ in range(rng.randrange(1, 4))
        ]
        data = damaged(rng, batch(made, key=rng.choice([None, b"", b"k"])))
        batches = EveryBatch(data).next_batch()
        records = fetched.records_of(data, 0, len(data), batches.base_offset, batches.first_timestamp)  # type: ignore[attr-defined]  # any batch
        if records is not None:
            told, _, error = unpacked(OneByOne, MemoryRecords(data))
            assert not error
            assert list(records) == told
            taken += 1
    assert taken > 3


@pytest.mark.parametrize("seed", range(5))
def test_damaged_headers_end_as_they_do_in_aiokafka(seed: int) -> None:
    """Also those bytes that no checksum covers: offset, length, epoch and format."""
    rng = random.Random(seed)
    for _ in range(1000):
        batches = [batch([(b"a", [])] * rng.randrange(1, 4), base=number * 4) for number in range(rng.randrange(1, 4))]
        data = bytearray(b"".join(batches))
        begin = len(b"".join(batches[: rng.randrange(len(batches))]))
        at = begin + rng.randrange(_HEADER_BYTES if rng.random() < 0.5 else 21)
        data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256), (data[at] + 1) % 256])
        compared(bytes(data), crcs=rng.random() < 0.5)


CHECKED = """
from streams.source.fetched import records_of
data = {data!r}
for end in range(len(data) + 1):
    assert (records_of(data, 0, end, 0, 0) is None) == (end < len(data))
    assert records_of(data[:end], 0, len(data), 0, 0) is None or end == len(data)
    for byte in (0, 1, 2, 127, 128, 255):
        for cut in (end + 1, len(data)):
            changed = data[:end] + bytes([byte]) + data[end + 1:]
            records = records_of(changed[:cut], 0, min(cut, len(changed)), 0, 0)
            if records is not None:
                assert all(changed[at] == 0 for at in records.ends.tolist())
                list(records)
print("checked")
"""


def test_nothing_behind_a_batch_is_read(tmp_path: Path) -> None:
    """Compiled with numba's bounds checks: every cut, and every byte replaced."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    code = CHECKED.format(data=batch([(b"abc", []), (None, []), (b"x" * 70, [])]))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "checked\n", done.stderr
