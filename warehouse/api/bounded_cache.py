"""What is kept for a moment, bounded in age and in bytes: strangers choose the keys of every cache of the API."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: What an entry costs beside what it holds: two places in dictionaries, a tuple and some numbers.
ENTRY_BYTES: Final = 400


class BoundedCache(Generic[K, V]):
    """Values by key. None is given out that is older than ``ttl_s``, by ``monotonic``, in seconds.

    What is too old leaves when something new comes, and so do the oldest while all together weigh more than
    ``bytes_max``. A value that alone weighs more is not kept.
    """

    def __init__(self, *, ttl_s: float, bytes_max: int, monotonic: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._bytes_max = bytes_max
        self._monotonic = monotonic
        #: when it was true, what it weighs, the value; the oldest first
        self._entries: OrderedDict[K, tuple[float, int, V]] = OrderedDict()
        self._bytes = 0

    @property
    def weight_bytes(self) -> int:
        """What all entries weigh together."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> tuple[float, V] | None:
        """When the value was true, and the value; None when there is none, or none that is young enough."""
        entry = self._entries.get(key)
        if entry is None or self._monotonic() - entry[0] > self._ttl_s:
            return None
        return entry[0], entry[2]

    def peek(self, key: K) -> tuple[float, int, V] | None:
        """When the value was true, what it weighs, and the value, however old: for who looks at its age."""
        return self._entries.get(key)

    def put(self, key: K, value: V, *, at_s: float, weight_bytes: int) -> None:
        """Keep a value that was true at ``at_s``; ``weight_bytes`` is its own and its key's."""
        if self._ttl_s <= 0:
            return
        self._drop(key)
        weight_bytes += ENTRY_BYTES
        if weight_bytes <= self._bytes_max:
            self._entries[key] = (at_s, weight_bytes, value)
            self._bytes += weight_bytes
        self._sweep()

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]

    def _sweep(self) -> None:
        oldest_s = self._monotonic() - self._ttl_s
        while self._entries:
            key, (at_s, _, _) = next(iter(self._entries.items()))
            if at_s >= oldest_s and self._bytes <= self._bytes_max:
                return
            self._drop(key)
