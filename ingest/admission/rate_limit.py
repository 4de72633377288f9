"""Rate limits by name, shared by all workers of a service on one host.

Each name has a token bucket, stored as one number: the time at which it is full again (GCRA, the generic cell rate
algorithm). Taking tokens moves that time forward. A full bucket equals no bucket, so its slot can be reused without
losing anything that was counted.

The buckets are an 8-way set-associative table in memory that all workers map. A keyed hash (BLAKE2b) chooses the set,
so nobody can choose whom they share one with. When all eight slots are busy, a new name takes over the slot nearest
to full and continues from its level: a crowd is slowed down and never gets a fresh burst.

Nothing is locked: of two workers that take from one bucket within the same microsecond, one may go uncounted.
"""

from __future__ import annotations

import mmap
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import Final

#: The file's name in the folder that the workers of a service share.
FILE_NAME: Final = "limits"
_WAYS: Final = 8
_WORDS: Final = 2 * _WAYS
_KEY_BYTES: Final = 16
_FOUND_MAX: Final = 20_000
#: Sets for members and sites, for addresses that fail, and for budgets.
_SETS: Final = (16_384, 2048, 8)
_SIZE: Final = _KEY_BYTES + 8 * _WORDS * sum(_SETS)


class BucketTable:
    """One table of buckets, named by arbitrary bytes."""

    def __init__(self, memory: memoryview, key: bytes) -> None:
        self._names = memory.cast("Q")
        self._full_at = memory.cast("d")
        self._sets = len(self._names) // _WORDS
        self._key = key
        #: A cache: name -> its last slot and its hash.
        self._found: dict[bytes, tuple[int, int]] = {}

    def take(self, name: bytes, count: float, *, per_s: float, burst: float, now_s: float) -> float:
        """Take ``count`` tokens from a bucket of size ``burst`` and return 0; or take none and return seconds to wait.

        A ``count`` above ``burst`` never succeeds, whatever the wait. ``per_s`` must be above 0, and ``now_s`` must
        come from a monotonic clock that all workers share.
        """
        place = self._place(name)
        full_at = max(self._full_at[place], now_s)
        after = full_at + count / per_s
        holds_s = burst / per_s
        # Without the tolerance, rounding could refuse the last token of a burst.
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
    """The buckets of a service: callers (members and sites), strangers (addresses), and budgets for refused input."""

    def __init__(self, folder: Path | None = None) -> None:
        """Map the buckets that the workers share in ``folder``; without a folder, those of this process alone."""
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
    """Create the file that the workers of a service map. Call this before they start."""
    with (folder / FILE_NAME).open("wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.truncate(_SIZE)
