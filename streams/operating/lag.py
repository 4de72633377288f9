"""How far each partition is behind the end of its log, for /ready and the metrics."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from streams.operating.metrics import Metrics

#: Log ends remembered per partition, one a second: beyond an hour, the reported lag is slightly too long.
_ENDS_MAX: Final = 3600
#: After so many stall times without a record, a partition that has some is not coming by itself.
_STALLS_MAX: Final = 5


@dataclass(slots=True)
class PartitionProgress:
    """One partition's distance from the end of its log."""

    counted: int  # the next offset to count
    end: int
    caught_up: float  # monotonic time up to which everything in the log is counted
    moved: float  # monotonic time at which progress last moved
    held: float  # monotonic time at which records of it were last waiting to be written
    #: Observed (time, end of the log) pairs that are not counted yet. Under load something is always uncounted, so the
    #: lag is the age of the oldest uncounted record, not the time since there was none.
    seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_ENDS_MAX))

    @property
    def records(self) -> int:
        """Records not counted yet."""
        return max(0, self.end - self.counted)


@dataclass(slots=True)
class LagTracker:
    """The lag of this worker's partitions. A partition is stalled when it has a lag and does not move."""

    stall_s: float
    metrics: Metrics
    partitions: dict[int, PartitionProgress] = field(default_factory=dict)
    monotonic: Callable[[], float] = time.monotonic
    #: Why Kafka did not tell the log's ends when it was last asked.
    unheard: str = ""
    heard: float = field(init=False)  # monotonic time at which it last did

    def __post_init__(self) -> None:
        self.heard = self.monotonic()

    def observe(self, counted: Mapping[int, int], ends: Mapping[int, int], holding: Collection[int] = ()) -> None:
        """Record each partition's next offset to count and the end of its log, and what is waiting to be written."""
        now = self.monotonic()
        self.heard, self.unheard = now, ""
        for gone in set(self.partitions) - set(counted):
            del self.partitions[gone]
            self.metrics.lag_records.remove(str(gone))
            self.metrics.lag_s.remove(str(gone))
        for number, offset in counted.items():
            end = ends.get(number, offset)
            known = self.partitions.setdefault(number, PartitionProgress(offset, end, now, now, now))
            if offset != known.counted:
                known.moved = now
            known.counted, known.end = offset, end
            known.seen.append((now, end))
            while known.seen and known.seen[0][1] <= offset:
                known.caught_up = known.seen.popleft()[0]
            if not known.records:
                known.moved = now
            if number in holding:
                known.held = now
            self.metrics.lag_records.labels(str(number)).set(known.records)
            self.metrics.lag_s.labels(str(number)).set(now - known.caught_up)

    def silence_s(self) -> float:
        """How long ago Kafka last told the log's ends."""
        return self.monotonic() - self.heard

    def silent(self) -> list[str]:
        """A sentence if Kafka has not answered for the stall time: what it last said of the log proves nothing then."""
        silence_s = self.silence_s()
        if silence_s < self.stall_s:
            return []
        return [f"Kafka has not told the ends of the log for {silence_s:.0f} s: {self.unheard or 'it does not answer'}"]

    def stalled(self) -> list[str]:
        """A sentence for each stalled partition."""
        now = self.monotonic()
        return [
            f"partition {number} has been stuck at offset {lag.counted} for {now - lag.moved:.0f} s, "
            f"{lag.records} records before the end of its log"
            for number, lag in sorted(self.partitions.items())
            if lag.records and now - lag.moved >= self.stall_s
        ]

    def starved(self) -> str:
        """Why this worker should start anew, in a sentence: Kafka tells of records that it has not got for long."""
        now = self.monotonic()
        for number, lag in sorted(self.partitions.items()):
            waited_s = now - max(lag.moved, lag.held)
            if lag.records and waited_s >= _STALLS_MAX * self.stall_s:
                return (
                    f"partition {number} has got no record for {waited_s:.0f} s, though Kafka tells of {lag.records} "
                    f"from offset {lag.counted} on: this worker ends, so that the one started in its place reads them"
                )
        return ""
