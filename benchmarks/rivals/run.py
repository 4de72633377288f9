"""Flattr beside its rivals, each comparison with both sides in turns: collecting, counting, splitting.

    flattr bench rivals --json .bench/rivals.json

What a machine lacks is left out, and ``missing`` says by name what to install.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.rivals import collecting, counting, splitting
from benchmarks.rivals.tools import Missing

#: By name; each with the rivals that it has.
COMPARISONS: Final = {
    "collecting": ("go",),
    "counting": ("kafka_streams", "bytewax"),
    "splitting": splitting.RIVALS,
}
#: Counts, amounts and records that are not ours: one, and its figure beside them is worth nothing.
WRONG: Final = ("_wrong_counts", "_wrong_amounts", "_records_differ", "_not_202")


def run(  # noqa: PLR0913 - how much of each
    *, pairs: int, clicks: int, singles: int, round_s: float, rounds: int, only: str, fetch: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Compare all, or ``only`` one. Nothing is fetched or built unless ``fetch``."""
    missing: dict[str, str] = {}

    def left_out(rival: str, reason: str) -> None:
        missing[rival] = reason
        say(f"{rival} is left out: {reason}")

    comparisons: dict[str, Callable[[], dict[str, Any]]] = {
        "collecting": lambda: collecting.run(round_s=round_s, rounds=rounds, fetch=fetch),
        "counting": lambda: counting.run(clicks=clicks, singles=singles, rounds=rounds, fetch=fetch, left_out=left_out),
        "splitting": lambda: splitting.run(pairs=pairs, rounds=rounds, fetch=fetch),
    }
    figures: dict[str, Any] = {}
    for name, compare in comparisons.items():
        if only in ("", name):
            say(f"comparing: {name}")
            try:
                figures |= compare()
            except Missing as reason:
                for rival in COMPARISONS[name]:
                    left_out(rival, str(reason))
    wrong = sum(value for key, value in figures.items() if key.endswith(WRONG))
    return {**figures, "wrong": wrong, "missing": missing}
