"""Room for tables: in memory up to a bound, in files beyond it.

A table in a file works the same, so counting stays exact; it is as slow as the disk when the
machine's memory is short, and as fast as before while the page cache holds it. The file has
no name and goes with its table: state can always be read from the warehouse again.
"""

from __future__ import annotations

import mmap
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

_log = structlog.get_logger()
#: From this size on an array has pages of its own: in the heap, what a growing table leaves behind would
#: stay with the process, in holes between what still lives.
_OWN_PAGES_BYTES: Final = 1 << 18
#: A huge page is 2 MB: smaller arrays would share them, and the last to go would keep them.
_HUGE_PAGES_BYTES: Final = 1 << 22


class Memory:
    """Gives out zeroed arrays; ``bound_bytes`` of them in memory, further ones in files in ``folder``."""

    def __init__(self, bound_bytes: int | None = None, folder: Path | None = None) -> None:
        self._bound_bytes = bound_bytes
        self._folder = folder
        # Tables are dropped by whichever thread lets go of them last, maybe in the middle of `zeros`.
        self._lock = threading.RLock()
        self.held_bytes = 0
        self.spilled_bytes = 0

    def zeros(self, count: int) -> npt.NDArray[np.uint64]:
        """An array of that many words."""
        with self._lock:
            return self._zeros(count)

    def _zeros(self, count: int) -> npt.NDArray[np.uint64]:
        size = 8 * count
        if self._bound_bytes is None or self.held_bytes + size <= self._bound_bytes:
            array = np.zeros(count, np.uint64) if size < _OWN_PAGES_BYTES else _mapped(size)
            self.held_bytes += size
            weakref.finalize(array, self._take_back, size, 0)
            return array
        if not self.spilled_bytes:
            _log.warning("state is over its bound: further tables go to disk", bound_bytes=self._bound_bytes)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.truncate(size)
            array = np.frombuffer(mmap.mmap(file.fileno(), size), np.uint64)
        self.spilled_bytes += size
        weakref.finalize(array, self._take_back, 0, size)
        return array

    def _take_back(self, held: int, spilled: int) -> None:
        with self._lock:
            self.held_bytes -= held
            self.spilled_bytes -= spilled


def _mapped(size: int) -> npt.NDArray[np.uint64]:
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_PAGES_BYTES:
        # Reached at random: with small pages, most reaches would look for the page, too.
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint64)


#: For whoever needs no bound.
UNBOUNDED = Memory()
