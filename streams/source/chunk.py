"""What the consumer hands to the stream: all records of one fetch of one partition, as one value."""

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
    """Records of one partition in log order, none left out since ``follows``.

    ``follows`` is the offset that this chunk goes on from: the end of the chunk before it, or
    where the consumer was set. A chunk that goes on from elsewhere tells that one was lost.
    """

    follows: int
    records: tuple[LogRecord, ...]
    size_bytes: int
    #: of the records' headers, when traces are on
    traceparents: tuple[bytes, ...] = ()

    @property
    def end(self) -> int:
        """The offset behind the last record."""
        return self.records[-1].offset + 1
