"""The event that the consumer delivers: all records of one fetch of one partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, overload

import msgspec
import numpy as np

from streams.state.hash_table import I64


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as it stands in the log. Hundreds of thousands may be in memory, so the garbage collector skips it."""

    offset: int
    timestamp_ms: int
    value: bytes
    #: The context of the request that wrote it, if that was traced.
    traceparent: bytes = b""


_UNTRACED: Final[Mapping[int, bytes]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Records(Sequence[LogRecord]):
    """Records in log order, as columns over the bytes in which they came; one that is asked for becomes an object.

    Offsets rise. A zero byte stands behind each value, ``data[ends[n]] == 0``: the scan of clicks stops at it.
    """

    data: bytes
    offsets: I64
    stamps_ms: I64
    starts: I64
    ends: I64
    #: By offset, of those that were traced.
    contexts: Mapping[int, bytes] = field(default_factory=lambda: _UNTRACED)

    @classmethod
    def of(cls, records: Iterable[LogRecord]) -> Records:
        """These records, in bytes of their own."""
        records = list(records)
        sizes = np.array([len(one.value) for one in records], np.int64)
        ends = np.cumsum(sizes + 1) - 1
        return cls(
            b"\0".join([*(one.value for one in records), b""]),
            np.array([one.offset for one in records], np.int64),
            np.array([one.timestamp_ms for one in records], np.int64),
            ends - sizes,
            ends,
            {one.offset: one.traceparent for one in records if one.traceparent},
        )

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> LogRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> LogRecord | Records:
        if isinstance(index, slice):
            offsets = self.offsets[index]
            contexts = self.contexts
            if contexts:
                contexts = {offset: contexts[offset] for offset in offsets.tolist() if offset in contexts}
            return Records(self.data, offsets, self.stamps_ms[index], self.starts[index], self.ends[index], contexts)
        offset = int(self.offsets[index])
        value = self.data[self.starts[index] : self.ends[index]]
        return LogRecord(offset, int(self.stamps_ms[index]), value, self.contexts.get(offset, b""))

    def __iter__(self) -> Iterator[LogRecord]:
        columns = (self.offsets, self.stamps_ms, self.starts, self.ends)
        for offset, stamp_ms, start, end in zip(*(column.tolist() for column in columns), strict=True):
            yield LogRecord(offset, stamp_ms, self.data[start:end], self.contexts.get(offset, b""))

    @property
    def sizes(self) -> I64:
        """How many bytes each value has."""
        return self.ends - self.starts

    def since(self, offset: int) -> Records:
        """Those at or above the offset."""
        return self[int(np.searchsorted(self.offsets, offset)) :]


def joined(pieces: Sequence[Sequence[LogRecord]]) -> Records:
    """The records of all pieces as one, without a copy of bytes that they share."""
    columns = [piece if isinstance(piece, Records) else Records.of(piece) for piece in pieces]
    if len(columns) == 1:
        return columns[0]
    columns = [piece for piece in columns if len(piece)]
    if not columns:
        return Records.of(())
    data = columns[0].data
    starts, ends = [piece.starts for piece in columns], [piece.ends for piece in columns]
    if any(piece.data is not data for piece in columns):
        spans = [memoryview(piece.data)[piece.starts[0] : piece.ends[-1] + 1] for piece in columns]
        begins = np.cumsum([0, *map(len, spans)]).tolist()
        shifts = [begin - int(piece.starts[0]) for begin, piece in zip(begins, columns, strict=False)]
        starts = [places + shift for places, shift in zip(starts, shifts, strict=True)]
        ends = [places + shift for places, shift in zip(ends, shifts, strict=True)]
        data = b"".join(spans)
    contexts: dict[int, bytes] = {}
    for piece in columns:
        contexts.update(piece.contexts)
    return Records(
        data,
        np.concatenate([piece.offsets for piece in columns]),
        np.concatenate([piece.stamps_ms for piece in columns]),
        np.concatenate(starts),
        np.concatenate(ends),
        contexts,
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in log order, without gaps since ``follows``.

    ``follows`` is the end of the previous chunk, or the offset to which the consumer was set; any other value shows
    that a chunk was lost.
    """

    follows: int
    records: Sequence[LogRecord]
    size_bytes: int

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.records[-1].offset + 1
