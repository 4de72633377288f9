"""Waiting before another try: longer each time, up to a bound, and not at the same moment as everybody else."""

from __future__ import annotations

import random

import pytest

from ingest.runtime.backoff import backoff_s


@pytest.mark.parametrize(("attempt", "ceiling_s"), [(0, 0.1), (1, 0.2), (5, 3.2), (6, 5.0), (10_000, 5.0)])
def test_wait_is_anywhere_below_a_ceiling_that_doubles_up_to_its_bound(attempt: int, ceiling_s: float) -> None:
    chance = random.Random(7)
    waits = [backoff_s(attempt, first_s=0.1, max_s=5.0, chance=chance) for _ in range(2000)]
    assert 0 <= min(waits) < 0.01 * ceiling_s
    assert 0.99 * ceiling_s < max(waits) < ceiling_s
    assert sum(waits) / len(waits) == pytest.approx(ceiling_s / 2, rel=0.05)


def test_waits_are_drawn_anew_and_repeat_with_the_same_dice() -> None:
    assert backoff_s(9, first_s=0.1, max_s=5.0) != backoff_s(9, first_s=0.1, max_s=5.0)
    first, again = (backoff_s(3, first_s=1, max_s=60, chance=random.Random("7")) for _ in range(2))
    assert first == again
