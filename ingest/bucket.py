"""Token buckets: so many a second, so many at once. Pure: the time is an argument."""

from __future__ import annotations


class Bucket:
    """Holds up to ``burst`` tokens and gains ``per_s`` a second; each event takes one."""

    __slots__ = ("_at_s", "_burst", "_level", "_per_s")

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, count: float, now_s: float) -> float:
        """Take ``count`` tokens and return 0, or take none and return after how many seconds they are there.

        More than a full bucket holds is never there: it then waits for a full bucket.
        """
        # A clock that steps back gives nothing and takes nothing away.
        self._level = min(self._burst, self._level + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if count <= self._level:
            self._level -= count
            return 0.0
        missing = min(count, self._burst) - self._level
        return missing / self._per_s if self._per_s > 0 else 3600.0
