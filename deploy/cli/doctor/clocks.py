"""How far another machine's clock is from ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from deploy.cli.doctor.findings import Finding, ok, warning, wrong

#: Milliseconds since 1970.
Clock = Callable[[], int]
#: Topics refuse stamps that are further off than a minute, and the close waits for as much; NTP keeps a few ms.
_WRONG_MS: Final = 30_000
_WARNING_MS: Final = 1_000
_TO_DO: Final = "run NTP on both (docs/runbooks.md, ClockWrong)"


def difference(about: str, asked_ms: int, theirs_ms: int, answered_ms: int) -> Finding:
    """``theirs_ms`` was read between ``asked_ms`` and ``answered_ms`` of our clock: it is off by what lies outside."""
    about = f"clock of {about}"
    before_ms, after_ms = asked_ms - theirs_ms, theirs_ms - answered_ms
    off_ms = max(0, before_ms, after_ms)
    found = f"{off_ms / 1000:.1f} s {'ahead of' if after_ms > before_ms else 'behind'} ours"
    if off_ms > _WRONG_MS:
        return wrong(about, found, _TO_DO)
    if off_ms > _WARNING_MS:
        return warning(about, found, _TO_DO)
    return ok(about, "as ours, as far as one question can tell")
