"""A producer gone wrong must not fill the warehouse with what nobody can read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from streams.errors import StreamStopped

_WINDOW_S: Final = 60
#: Fewer clicks than this say nothing about a share.
_SAMPLE_MIN: Final = 1000


class MalformedWatch:
    """Stops the worker when more than a share of a minute's clicks cannot be read.

    It is asked before a batch is written, so what made it stop stays in the log, uncounted.
    """

    def __init__(self, share_max: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._share_max = share_max
        self._now_s = now_s
        self._batches: deque[tuple[float, int, int]] = deque()

    def watch(self, clicks: int, malformed: int) -> None:
        """Take a batch in. Raises ``StreamStopped``."""
        now_s = self._now_s()
        self._batches.append((now_s, clicks, malformed))
        while self._batches[0][0] <= now_s - _WINDOW_S:
            self._batches.popleft()
        seen, wrong = (sum(batch[part] for batch in self._batches) for part in (1, 2))
        if seen >= _SAMPLE_MIN and wrong > self._share_max * seen:
            raise StreamStopped(
                f"{wrong} of the last {seen} clicks cannot be read, more than FLATTR_STREAMS_MALFORMED_MAX="
                f"{self._share_max}: find the producer that writes them, then raise the share to 1 to count past them"
            )
