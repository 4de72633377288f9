"""How often something may happen, by name, over all workers of a service on one host.

Each name has a token bucket: so many a second, so many at once. A bucket is one number, the time at which it will be
full again (the generic cell rate algorithm): taking moves it ahead, and one whose time has come is the same as none.
So a place in the table is free as soon as its bucket is full, and nobody who is busy loses what was counted.

The buckets stand in memory that all workers map, in sets of eight places chosen by a hash with a key of the service,
so that nobody can choose whom they share a set with. When all eight are busy, a new name takes over the place that
is nearest to full and goes on from its level: a crowd gets slower, and never a fresh burst.

Nothing is locked. Two workers that take from one bucket within the same microsecond may count one of the two.
"""

from __future__ import annotations

import mmap
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import Final

#: In the folder that the workers of a service share.
FILE_NAME: Final = "limits"
_WAYS: Final = 8
_WORDS: Final = 2 * _WAYS
_KEY_BYTES: Final = 16
_FOUND_MAX: Final = 20_000
#: Places for members and sites that are busy at a time, for addresses that fail, and for budgets.
_SETS: Final = (16_384, 2048, 8)
_SIZE: Final = _KEY_BYTES + 8 * _WORDS * sum(_SETS)


class BucketTable:
    """One table of buckets. A bucket's name is any bytes."""

    def __init__(self, memory: memoryview, key: bytes) -> None:
        self._names = memory.cast("Q")
        self._full_at = memory.cast("d")
        self._sets = len(self._names) // _WORDS
        self._key = key
        #: Where a name stood last, and its hash.
        self._found: dict[bytes, tuple[int, int]] = {}

    def take(self, name: bytes, count: float, *, per_s: float, burst: float, now_s: float) -> float:
        """Take ``count`` of a bucket that holds ``burst``; return 0, or take none and return the seconds to wait.

        More than a full bucket holds is never there, so there is no right time to wait. ``per_s`` is above 0, and
        ``now_s`` by a clock that all workers share and that never steps back.
        """
        place = self._place(name)
        full_at = max(self._full_at[place], now_s)
        after = full_at + count / per_s
        holds_s = burst / per_s
        # Rounding must not refuse the last of a burst.
        if after - now_s <= holds_s + 1e-6:
            self._full_at[place] = after
            return 0.0
        return after - now_s - holds_s

    def _place(self, name: bytes) -> int:
        found = self._found.get(name)
        if found is None or self._names[found[0] - 1] != found[1]:
            if len(self._found) >= _FOUND_MAX:
                self._found.clear()
            found = self._found[name] = self._look(name)
        return found[0]

    def _look(self, name: bytes) -> tuple[int, int]:
        digest = int.from_bytes(blake2b(name, digest_size=8, key=self._key).digest(), "little") or 1
        first = digest % self._sets * _WORDS
        names = self._names
        for at in range(first, first + _WORDS, 2):
            if names[at] == digest:
                return at + 1, digest
        idlest = min(range(first + 1, first + _WORDS, 2), key=self._full_at.__getitem__)
        names[idlest - 1] = digest
        return idlest, digest


class RateLimits:
    """The buckets of a service: of members and sites, of addresses, and what may be kept of refused input."""

    def __init__(self, folder: Path | None = None) -> None:
        """Those of the workers that share ``folder``; without one, of this process alone."""
        if folder is None:
            memory = mmap.mmap(-1, _SIZE)
            memory[:_KEY_BYTES] = secrets.token_bytes(_KEY_BYTES)
        else:
            with (folder / FILE_NAME).open("r+b") as file:
                memory = mmap.mmap(file.fileno(), _SIZE)
        key = memory[:_KEY_BYTES]
        tables = []
        start = _KEY_BYTES
        for sets in _SETS:
            end = start + 8 * _WORDS * sets
            tables.append(BucketTable(memoryview(memory)[start:end], key))
            start = end
        self.callers, self.strangers, self.budgets = tables


def share_limits(folder: Path) -> None:
    """Make the file that the workers of a service map. Call before they start."""
    with (folder / FILE_NAME).open("wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.truncate(_SIZE)
