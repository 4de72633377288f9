"""The clock, a parameter of every service: the machine's, shifted, or controlled by a file.

``system`` is the machine's clock, ``+3600`` or ``-60`` shifts it by seconds, and ``file:PATH`` shifts it by the
milliseconds in PATH (a signed little-endian 64-bit integer), read through a memory map at every call, so that one
writer can step the clock of many processes.
"""

from __future__ import annotations

import mmap
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator

from ingest.runtime.setting_error import SettingError

#: Milliseconds since 1970 in UTC.
Clock = Callable[[], int]

_OFFSET = struct.Struct("<q")
#: Seconds, within three hundred years.
_SHIFT: Final = re.compile(r"[+-]?[0-9]{1,10}(\.[0-9]+)?")


def system_clock() -> int:
    """The machine's time, in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def clock_from(setting: str) -> Clock:
    """Build the clock that a setting names. Raises ``SettingError`` for an invalid setting."""
    if setting == "system":
        return system_clock
    if setting.startswith("file:"):
        return _file_clock(Path(setting.removeprefix("file:")))
    if not _SHIFT.fullmatch(setting):
        raise SettingError(
            f"FLATTR_CLOCK (or --clock) is {setting!r}: it must be one of system, +SECONDS, -SECONDS, file:PATH"
        )
    offset_ms = round(float(setting) * 1000)
    return lambda: system_clock() + offset_ms


def known_clock(setting: str) -> str:
    """The setting, if it names a clock. Raises ``SettingError``."""
    clock_from(setting)
    return setting


#: A setting that is refused at the start of a service, whatever the service waits for.
ClockSetting = Annotated[str, AfterValidator(known_clock)]


def write_clock_file(path: Path, offset_ms: int) -> None:
    """Create the clock file, or step it for every process that reads it.

    An existing file is written in place: readers have mapped it and would not see a replacement.
    """
    if path.exists():
        with path.open("r+b") as file:
            file.write(_OFFSET.pack(offset_ms))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_OFFSET.pack(offset_ms))


def _file_clock(path: Path) -> Clock:
    if not path.exists() or path.stat().st_size != _OFFSET.size:
        raise SettingError(f"FLATTR_CLOCK: the file {path} does not hold a signed 64-bit count of milliseconds")
    with path.open("rb") as file:
        view = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    return lambda: system_clock() + int(_OFFSET.unpack_from(view)[0])
