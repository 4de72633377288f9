"""How far the counts are behind the clicks: per partition, in records and in time. Pure but for its query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from warehouse.client import Warehouse, named

#: How far back ``log_ends`` is read. Who is further behind falls back to the time of the last record counted.
_HISTORY_MS: Final = 3600 * 1000
_OFFSET_MASK: Final = (1 << 40) - 1


@dataclass(frozen=True)
class PartitionLag:
    """One partition. ``records`` is None when the end of its log is not known, ``as_of_ms`` when nothing is."""

    partition: int
    records: int | None
    as_of_ms: int | None
    #: of the last click counted; None when none was
    position: int | None = None


@dataclass(frozen=True)
class Lag:
    """All partitions at one moment, by the service's clock.

    Every click accepted before ``as_of_ms`` is in the counts; None when some partition was never counted.
    """

    now_ms: int
    partitions: tuple[PartitionLag, ...]

    @property
    def as_of_ms(self) -> int | None:
        """The oldest of the partitions."""
        moments = [part.as_of_ms for part in self.partitions]
        known = [moment for moment in moments if moment is not None]
        return min(known) if known and len(known) == len(moments) else None

    @property
    def records(self) -> int | None:
        """Records not yet counted, over all partitions."""
        each = [part.records for part in self.partitions]
        known = [records for records in each if records is not None]
        return sum(known) if known and len(known) == len(each) else None

    @property
    def seconds(self) -> float | None:
        """Age of ``as_of_ms``."""
        return None if self.as_of_ms is None else seconds_between(self.as_of_ms, self.now_ms)

    def seconds_of(self, part: PartitionLag) -> float | None:
        """Age of one partition's ``as_of_ms``."""
        return None if part.as_of_ms is None else seconds_between(part.as_of_ms, self.now_ms)


def seconds_between(earlier_ms: int, later_ms: int) -> float:
    """Never negative: two machines' clocks may differ by a little."""
    return max(0, later_ms - earlier_ms) / 1000


def partition_lag(
    partition: int, position: int | None, record_at_ms: int | None, end: int | None, level_at_ms: int | None
) -> PartitionLag:
    """Judge one row of ``lag.sql``: counted position, its record's time, log end, when both were last level."""
    moments = [moment for moment in (record_at_ms, level_at_ms) if moment is not None]
    return PartitionLag(
        partition, None if end is None else _behind(position, end), max(moments, default=None), position
    )


def _behind(position: int | None, end: int) -> int:
    end_offset = end >> 16 & _OFFSET_MASK
    # A log of a newer epoch starts at offset 0, and nothing of it is counted yet.
    if position is None or position >> 56 < end >> 56:
        return end_offset
    return max(0, end_offset - (position >> 16 & _OFFSET_MASK) - 1)


def lag_of(rows: Iterable[tuple[int, int | None, int | None, int | None, int | None]], now_ms: int) -> Lag:
    """The lag that the rows of ``lag.sql`` state."""
    return Lag(now_ms, tuple(partition_lag(*row) for row in rows))


def read_lag(warehouse: Warehouse, now_ms: int) -> Lag:
    """Read it from the warehouse."""
    rows = warehouse.rows(named("lag"), {"since_ms": now_ms - _HISTORY_MS})
    return lag_of((tuple(row) for row in rows), now_ms)
