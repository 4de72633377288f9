"""How far the counts are behind the log, by partition, in records and in time. Pure except for ``read_lag``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ingest.contract.position import epoch_of, offset_of
from warehouse.counts.counts import ONE_THREAD
from warehouse.storage.client import Warehouse, named

#: How far back ``log_ends`` is read. A partition further behind uses the time of its last counted record.
_HISTORY_MS: Final = 3600 * 1000


@dataclass(frozen=True)
class PartitionLag:
    """One partition. ``records`` is None when the end of its log is unknown; ``as_of_ms`` when nothing is known."""

    partition: int
    records: int | None
    as_of_ms: int | None
    #: of the last counted click; None before the first
    position: int | None = None


@dataclass(frozen=True)
class Lag:
    """All partitions at one moment of the service's clock.

    Every click accepted before ``as_of_ms`` is in the counts; it is None while any partition has none.
    """

    now_ms: int
    partitions: tuple[PartitionLag, ...]

    @property
    def as_of_ms(self) -> int | None:
        """The oldest of the partitions' moments."""
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
        """Age of ``as_of_ms`` in seconds."""
        return None if self.as_of_ms is None else seconds_between(self.as_of_ms, self.now_ms)

    def seconds_of(self, part: PartitionLag) -> float | None:
        """Age of one partition's ``as_of_ms`` in seconds."""
        return None if part.as_of_ms is None else seconds_between(part.as_of_ms, self.now_ms)


def seconds_between(earlier_ms: int, later_ms: int) -> float:
    """Seconds from one moment to the next; 0 if the two machines' clocks disagree about the order."""
    return max(0, later_ms - earlier_ms) / 1000


def partition_lag(
    partition: int, position: int | None, record_at_ms: int | None, end: int | None, level_at_ms: int | None
) -> PartitionLag:
    """Compute one partition's lag.

    ``position`` is the last one counted, ``record_at_ms`` its record's time, ``end`` the position where the log ends,
    and ``level_at_ms`` when the log last ended no further than what is counted now.
    """
    moments = [moment for moment in (record_at_ms, level_at_ms) if moment is not None]
    return PartitionLag(
        partition, None if end is None else _behind(position, end), max(moments, default=None), position
    )


def _behind(position: int | None, end: int) -> int:
    end_offset = offset_of(end)
    # The log of a newer epoch starts at offset 0, and none of it is counted yet.
    if position is None or epoch_of(position) < epoch_of(end):
        return end_offset
    return max(0, end_offset - offset_of(position) - 1)


def lag_of(counted: Mapping[int, tuple[int, int]], ends: Mapping[int, tuple[int, int]], now_ms: int) -> Lag:
    """The lag from, by partition, ``lag_counted.sql``'s (position, time) and ``lag_ends.sql``'s (end, level at)."""
    partitions = []
    for number in sorted(counted.keys() | ends.keys()):
        position, record_at_ms = counted.get(number, (None, None))
        end, level_at_ms = ends.get(number, (None, None))
        # The queries return 0 for unknown.
        partitions.append(partition_lag(number, position or None, record_at_ms or None, end, level_at_ms or None))
    return Lag(now_ms, tuple(partitions))


def read_lag(warehouse: Warehouse, now_ms: int) -> Lag:
    """Read the lag. Progress is read first, so that clicks counted meanwhile make it look older, never newer."""
    counted = {
        number: (position, at_ms)
        for number, position, at_ms in warehouse.rows(named("lag_counted"), settings=ONE_THREAD)
    }
    positions = [0, *(position for position, _ in counted.values())]
    known = {"since_ms": now_ms - _HISTORY_MS, "partitions": list(counted), "positions": positions}
    ends = {
        number: (end, level_at_ms) for number, end, level_at_ms in warehouse.rows(named("lag_ends"), known, ONE_THREAD)
    }
    return lag_of(counted, ends, now_ms)
