"""The event that the consumer delivers: all records of one fetch of one partition."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as it stands in the log. Hundreds of thousands may be in memory, so the garbage collector skips it."""

    offset: int
    timestamp_ms: int
    value: bytes
    #: The context of the request that wrote it, if that was traced.
    traceparent: bytes = b""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in log order, without gaps since ``follows``.

    ``follows`` is the end of the previous chunk, or the offset to which the consumer was set; any other value shows
    that a chunk was lost.
    """

    follows: int
    records: tuple[LogRecord, ...]
    size_bytes: int

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.records[-1].offset + 1
