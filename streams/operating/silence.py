"""How long somebody who was asked has not answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Silence:
    """Begins with the first question that gets no answer, and ends with any."""

    who: str
    stall_s: float
    monotonic: Callable[[], float] = time.monotonic
    _since: float | None = None
    _reason: str = ""

    def ask(self) -> None:
        """A question is on its way."""
        if self._since is None:
            self._since = self.monotonic()

    def answered(self) -> None:
        """It came back."""
        self._since, self._reason = None, ""

    def failed(self, reason: str) -> None:
        """It came to nothing."""
        self._reason = reason

    def told(self) -> list[str]:
        """A sentence, if it has lasted for the stall time."""
        silence_s = 0.0 if self._since is None else self.monotonic() - self._since
        if silence_s < self.stall_s:
            return []
        return [f"{self.who} has not answered for {silence_s:.0f} s: {self._reason or 'nothing came back'}"]
