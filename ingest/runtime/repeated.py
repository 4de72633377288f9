"""Warnings that an outage repeats: one line a minute, with how many were left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

QUIET_S: Final = 60.0


class Repeated:
    """Logs each event at most once in ``QUIET_S``. For events of a closed list; safe to share between threads."""

    def __init__(self, log: Any, monotonic: Callable[[], float] = time.monotonic) -> None:  # noqa: ANN401 - structlog's
        self._log = log
        self._monotonic = monotonic
        self._said: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def info(self, event: str, **values: object) -> None:
        """Log it, or only count it."""
        self._say(self._log.info, event, values)

    def warning(self, event: str, **values: object) -> None:
        """The same, for what is not as it should be."""
        self._say(self._log.warning, event, values)

    def error(self, event: str, **values: object) -> None:
        """The same, for what somebody has to mend."""
        self._say(self._log.error, event, values)

    def _say(self, log: Callable[..., object], event: str, values: dict[str, object]) -> None:
        now = self._monotonic()
        if now - self._said.get(event, -QUIET_S) < QUIET_S:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return
        self._said[event] = now
        if left_out := self._left_out.pop(event, 0):
            values["left_out"] = left_out
        log(event, **values)
