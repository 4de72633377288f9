"""Allocates tables: in memory up to a bound, in memory-mapped files beyond it.

A table in a file works the same, so counting stays exact. It is as fast as memory while the page cache holds it, and
as slow as the disk when the machine is short of memory. The file is unnamed and disappears with its table, as state
can always be loaded from the warehouse again.
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
#: Larger arrays are mapped separately: in the heap, the old copies of growing tables would leave fragmented memory
#: that is never returned to the system.
_OWN_PAGES_BYTES: Final = 1 << 18
#: A huge page has 2 MB; smaller arrays would share one and free it only when the last of them is gone.
_HUGE_PAGES_BYTES: Final = 1 << 22


class Memory:
    """Allocates zeroed arrays, up to ``bound_bytes`` in memory, further ones in files in ``folder``."""

    def __init__(self, bound_bytes: int | None = None, folder: Path | None = None) -> None:
        self._bound_bytes = bound_bytes
        self._folder = folder
        # Reentrant, since a finalizer may run in any thread, even in the middle of `zeros`.
        self._lock = threading.RLock()
        self.held_bytes = 0
        self.spilled_bytes = 0

    def zeros(self, count: int) -> npt.NDArray[np.uint64]:
        """A zeroed array of ``count`` 64-bit words."""
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
            _log.warning(
                "the state exceeds FLATTR_STREAMS_STATE_MAX_MB: further tables go to disk, which may be slow",
                bound_bytes=self._bound_bytes,
            )
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
        # Accesses are random: with small pages, most of them would also miss the TLB.
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint64)


#: Memory without a bound.
UNBOUNDED = Memory()
