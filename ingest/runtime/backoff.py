"""How long to wait before the next try, wherever something is tried again."""

from __future__ import annotations

import random
from typing import Final

#: Far beyond any ceiling, and small enough for a float.
_DOUBLINGS_MAX: Final = 32


def backoff_s(attempt: int, *, first_s: float, max_s: float, chance: random.Random | None = None) -> float:
    """Seconds to wait after failure number ``attempt``, counted from 0: exponential, with full jitter.

    Drawn evenly from 0 to a ceiling that begins at ``first_s`` and doubles up to ``max_s``, so that those whom one
    outage stopped do not all come back at one moment, and not at the ceiling either. ``chance`` makes it repeatable.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling_s = min(max_s, first_s * 2.0 ** min(attempt, _DOUBLINGS_MAX))
    return ceiling_s * (random.random() if chance is None else chance.random())  # noqa: S311 - nobody gains by a guess
