"""How many partitions clicks were sent into, kept beside the spool: after a restart it must be as many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_FILE: Final = "partitions"


def noted_partitions(spool: Path | None) -> int:
    """The number that was noted; 0 if none was, or nobody can read it."""
    if spool is None:
        return 0
    try:
        return int((spool / _FILE).read_text())
    except (OSError, ValueError):
        return 0


def note_partitions(spool: Path | None, partitions: int) -> None:
    """Note the number, if there is a spool and it is another. A disk that takes no note takes no clicks either."""
    if spool is None or noted_partitions(spool) == partitions:
        return
    # Workers that share the folder may write at once.
    fresh = spool / f"{_FILE}.{os.getpid()}"
    try:
        spool.mkdir(parents=True, exist_ok=True)
        fresh.write_text(f"{partitions}\n")
        fresh.replace(spool / _FILE)
    except OSError:
        fresh.unlink(missing_ok=True)
