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

import numpy as np
import numpy.typing as npt
import structlog

_log = structlog.get_logger()


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
            array = np.zeros(count, np.uint64)
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


#: For whoever needs no bound.
UNBOUNDED = Memory()
