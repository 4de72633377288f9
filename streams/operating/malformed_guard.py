"""Detects a faulty producer: its clicks are stored in `rejected` and logged, and everybody else's are counted.

Whatever ingest accepts is well-formed here (both share ingest/contract/click.py), so no member can cause this.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

_log = structlog.get_logger()
_WINDOW_S: Final = 60
#: Fewer clicks than this are too small a sample.
_SAMPLE_MIN: Final = 1000
#: How much of each refused click or record is stored while there are too many.
RAW_MAX_BYTES: Final = 256


class MalformedGuard:
    """Measures the fraction of a minute's clicks that is malformed; above ``share_max`` little of each is stored."""

    def __init__(self, share_max: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._share_max = share_max
        self._now_s = now_s
        self._batches: deque[tuple[float, int, int]] = deque()
        self._told_at_s = float("-inf")
        #: How many bytes of a refused click or record to store; None: all.
        self.raw_max_bytes: int | None = None

    def watch(self, clicks: int, malformed: int) -> float:
        """Add a batch and return the last minute's fraction; logs once a minute while it is too large."""
        now_s = self._now_s()
        self._batches.append((now_s, clicks, malformed))
        while self._batches[0][0] <= now_s - _WINDOW_S:
            self._batches.popleft()
        seen, wrong = (sum(batch[part] for batch in self._batches) for part in (1, 2))
        over = seen >= _SAMPLE_MIN and wrong > self._share_max * seen
        self.raw_max_bytes = RAW_MAX_BYTES if over else None
        if over and now_s - self._told_at_s >= _WINDOW_S:
            self._told_at_s = now_s
            _log.error(
                "too many malformed clicks: find the producer that writes them (`flattr rejected list`)",
                malformed=wrong,
                clicks=seen,
                share_max=self._share_max,
                kept_bytes_each=RAW_MAX_BYTES,
            )
        return wrong / seen if seen >= _SAMPLE_MIN else 0.0
