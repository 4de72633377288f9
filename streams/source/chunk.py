"""The event that the consumer delivers: all records of one fetch of one partition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class LogRecord(NamedTuple):
    """One record as it stands in the log."""

    offset: int
    timestamp_ms: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in log order, without gaps since ``follows``.

    ``follows`` is the end of the previous chunk, or the offset to which the consumer was set; any other value shows
    that a chunk was lost.
    """

    follows: int
    records: tuple[LogRecord, ...]
    size_bytes: int
    #: From the records' headers, when tracing is on.
    traceparents: tuple[bytes, ...] = ()

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.records[-1].offset + 1
