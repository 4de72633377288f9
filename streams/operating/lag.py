"""How far each partition is behind its log's end: for /ready, for the metrics, and beside every count."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from streams.operating.metrics import Metrics

#: Ends of the log that are remembered per partition, one a second: past an hour behind, the lag is a bit too long.
_ENDS_MAX: Final = 3600


@dataclass(slots=True)
class PartitionProgress:
    """One partition's distance from the end of its log."""

    counted: int  # the next offset to count
    end: int
    caught_up: float  # monotonic time until which everything in the log is counted
    moved: float  # monotonic time at which progress last moved
    #: When the log was seen to end where, of those ends that are not counted up to. Under load there is always
    #: something uncounted, so the lag is the age of what is, not the time since there was nothing.
    seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_ENDS_MAX))

    @property
    def records(self) -> int:
        """Records not counted."""
        return max(0, self.end - self.counted)


@dataclass(slots=True)
class LagTracker:
    """Lag of all partitions of this worker. A partition stalls when it has a lag and does not move."""

    stall_s: float
    metrics: Metrics
    partitions: dict[int, PartitionProgress] = field(default_factory=dict)
    monotonic: Callable[[], float] = time.monotonic

    def observe(self, counted: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Take in each partition's next offset to count and the log's end."""
        now = self.monotonic()
        for gone in set(self.partitions) - set(counted):
            del self.partitions[gone]
            self.metrics.lag_records.remove(str(gone))
            self.metrics.lag_s.remove(str(gone))
        for number, offset in counted.items():
            end = ends.get(number, offset)
            known = self.partitions.setdefault(number, PartitionProgress(offset, end, now, now))
            if offset != known.counted:
                known.moved = now
            known.counted, known.end = offset, end
            known.seen.append((now, end))
            while known.seen and known.seen[0][1] <= offset:
                known.caught_up = known.seen.popleft()[0]
            if not known.records:
                known.moved = now
            self.metrics.lag_records.labels(str(number)).set(known.records)
            self.metrics.lag_s.labels(str(number)).set(now - known.caught_up)

    def stalled(self) -> list[str]:
        """A sentence for each partition that has clicks to count and stands still."""
        now = self.monotonic()
        return [
            f"partition {number} stands still at offset {lag.counted} for {now - lag.moved:.0f} s, "
            f"{lag.records} records before the log's end"
            for number, lag in sorted(self.partitions.items())
            if lag.records and now - lag.moved >= self.stall_s
        ]
