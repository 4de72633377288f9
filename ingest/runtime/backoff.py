"""Backoff: how long to wait before a retry."""

from __future__ import annotations

import random
from typing import Final

#: Beyond any ceiling, yet small enough for a float.
_DOUBLINGS_MAX: Final = 32


def backoff_s(attempt: int, *, first_s: float, max_s: float, chance: random.Random | None = None) -> float:
    """Seconds to wait after failure number ``attempt`` (from 0): exponential backoff with full jitter.

    Uniform between 0 and a ceiling that starts at ``first_s`` and doubles up to ``max_s``, so that clients stopped by
    one outage do not all return at once. ``chance`` makes it repeatable.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling_s = min(max_s, first_s * 2.0 ** min(attempt, _DOUBLINGS_MAX))
    return ceiling_s * (random.random() if chance is None else chance.random())  # noqa: S311 - not a secret
