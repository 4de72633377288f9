"""How many partitions of a topic clicks were sent into, kept beside the spool: after a restart it must be as many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_FILE: Final = "partitions"


def noted_partitions(spool: Path | None, topic: str) -> int:
    """The number that was noted of this topic; 0 if none was, or nobody can read it.

    Another topic is another log, whose number streams hold against what they know (`flattr topics grow`).
    """
    if spool is None:
        return 0
    try:
        number, _, of = (spool / _FILE).read_text().rstrip("\n").partition(" ")
        # Notes of before name no topic: it is the one that there was.
        return int(number) if of in {"", topic} else 0
    except (OSError, ValueError):
        return 0


def note_partitions(spool: Path | None, topic: str, partitions: int) -> None:
    """Note the number, if there is a spool. A disk that takes no note takes no clicks either."""
    if spool is None:
        return
    # Workers that share the folder may write at once.
    fresh = spool / f"{_FILE}.{os.getpid()}"
    try:
        spool.mkdir(parents=True, exist_ok=True)
        fresh.write_text(f"{partitions} {topic}\n")
        fresh.replace(spool / _FILE)
    except OSError:
        fresh.unlink(missing_ok=True)
