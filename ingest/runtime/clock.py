"""The clock, a parameter of every service: the machine's, shifted, or steered from a file.

``system`` is the machine's clock; ``+3600`` or ``-60`` is that clock shifted by seconds;
``file:PATH`` is shifted by the signed 64-bit count of milliseconds in PATH, read anew at
each call through a memory map, so that one writer can step the clock of many processes.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable
from pathlib import Path

#: Milliseconds since 1970 in UTC.
Clock = Callable[[], int]

_OFFSET = struct.Struct("<q")


def system_clock() -> int:
    """The machine's time in ms."""
    return time.time_ns() // 1_000_000


def clock_from(setting: str) -> Clock:
    """Build the clock that a setting names. Raises ``ValueError`` when it names none."""
    if setting == "system":
        return system_clock
    if setting.startswith("file:"):
        return _file_clock(Path(setting.removeprefix("file:")))
    try:
        offset_ms = round(float(setting) * 1000)
    except ValueError:
        raise ValueError(f"clock {setting!r} is none of: system, +SECONDS, -SECONDS, file:PATH") from None
    return lambda: system_clock() + offset_ms


def write_clock_file(path: Path, offset_ms: int) -> None:
    """Create or step the clock file; every process that reads it sees the step at once.

    An existing file is written in place: replacing it would leave the readers' maps behind.
    """
    if path.exists():
        with path.open("r+b") as file:
            file.write(_OFFSET.pack(offset_ms))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_OFFSET.pack(offset_ms))


def _file_clock(path: Path) -> Clock:
    if not path.exists() or path.stat().st_size != _OFFSET.size:
        raise ValueError(f"clock file {path} does not hold a signed 64-bit count of milliseconds")
    with path.open("rb") as file:
        view = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    return lambda: system_clock() + int(_OFFSET.unpack_from(view)[0])
