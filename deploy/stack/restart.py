"""Brings a part of the stack back after it died, with backoff, and without holding up the others."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Final

from deploy.stack.embedded import ServiceFailed, ServiceProcess

#: The pause before a start doubles with every death, up to the longest one.
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
#: A part that ran for so long has recovered: its next death is the first again.
CALM_S: Final = 60.0
READY_WITHIN_S: Final = 90.0
_ASK_EVERY_S: Final = 0.5


class Restart:
    """One part. ``look`` never waits; whoever calls it has to live as long as the part (see ``ServiceProcess.launch``).

    ``say`` gets a line for each death, with its reason, and for each return.
    """

    def __init__(
        self, part: ServiceProcess, say: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._part = part
        self._say = say
        self._monotonic = monotonic
        self._deaths = 0
        self._died_at = 0.0
        self._back_at = monotonic()
        #: When to start it, while it is down.
        self._due_at: float | None = None
        #: When it was started and when it is asked again whether it is ready, until it is.
        self._started_at: float | None = None
        self._ask_at = 0.0

    def look(self) -> bool:
        """Do what is due. True when the part has just come back."""
        now = self._monotonic()
        if self._part.running():
            return self._started_at is not None and self._is_back(now, self._started_at)
        if self._due_at is None:
            self._note_death(now, reason_of(self._part))
        elif now >= self._due_at:
            self._start(now)
        return False

    def _is_back(self, now: float, started_at: float) -> bool:
        if now < self._ask_at:
            return False
        self._ask_at = now + _ASK_EVERY_S
        if self._part.is_ready():
            self._started_at, self._back_at = None, now
            self._say(f"{self._part.name} is back after {now - self._died_at:.1f} s")
            return True
        if now - started_at > READY_WITHIN_S:
            self._part.kill()
            self._note_death(now, f"was not ready within {READY_WITHIN_S:.0f} s")
        return False

    def _note_death(self, now: float, reason: str) -> None:
        if self._started_at is None:
            self._died_at = now
            if now - self._back_at > CALM_S:
                self._deaths = 0
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._deaths, 10))
        self._deaths += 1
        self._started_at, self._due_at = None, now + pause_s
        # The log's end once: what repeats itself is named in the reason.
        tail = f"\n{self._part.tail()}" if self._deaths == 1 else ""
        self._say(f"{self._part.name} {reason}; starting it again in {pause_s:g} s{tail}")

    def _start(self, now: float) -> None:
        self._due_at = None
        try:
            self._part.launch()
        except (ServiceFailed, OSError) as error:
            self._note_death(now, f"cannot be started: {error}")
        else:
            self._started_at, self._ask_at = now, 0.0


def reason_of(part: ServiceProcess) -> str:
    """How the part ended: by which signal, or with which code and last words."""
    code = part.process.returncode if part.process else None
    if code is None:
        return "is not running"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    last = part.tail(1).splitlines()[-1].strip()
    return f"exited with code {code}: {last}"
