"""Where the suite's files lie: in memory, where there is enough of it.

Every test has a database of its own, of a hundred tables, and every server a folder: on a disk that other work keeps
busy they take longer than the tests themselves. What a killed process has written survives there as on a disk.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

_IN_MEMORY: Final = Path("/dev/shm")
#: Free there, and twice as much of the machine's memory: far more than one run of the suite has been seen to need.
_WANTED_BYTES: Final = 6 << 30


def in_memory() -> Path | None:
    """A file system in memory with room for the suite, if this machine has one."""
    try:
        if shutil.disk_usage(_IN_MEMORY).free < _WANTED_BYTES or _available_bytes() < 2 * _WANTED_BYTES:
            return None
    except OSError:
        return None
    return _IN_MEMORY


def _available_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) << 10
