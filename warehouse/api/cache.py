"""Caches bounded in age and in bytes, because anonymous clients choose the keys of all the API's caches."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Overhead of an entry: two slots in dictionaries, a tuple and some numbers.
ENTRY_BYTES: Final = 400
#: Short Python objects take about this many times the size of their JSON.
_OBJECTS: Final = 4
_FEW_BYTES: Final = 1 << 20


def weight_of(value: object) -> int:
    """Estimate the memory of a value of lists and dataclasses, in bytes."""
    return _OBJECTS * len(msgspec.json.encode(value))


class BoundedCache(Generic[K, V]):
    """Values by key, none older than ``ttl_s`` by ``monotonic``, in seconds.

    Adding a value evicts those that have expired, then the oldest until all together take at most ``bytes_max``.
    A value that exceeds ``bytes_max`` by itself is not cached.
    """

    def __init__(self, *, ttl_s: float, bytes_max: int, monotonic: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._bytes_max = bytes_max
        self._monotonic = monotonic
        #: (time in s, weight in bytes, value), oldest first
        self._entries: OrderedDict[K, tuple[float, int, V]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> tuple[float, V] | None:
        """The value's age in seconds and the value, or None if it is missing or expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age_s = self._monotonic() - entry[0]
        return None if age_s > self._ttl_s else (age_s, entry[2])

    def put(self, key: K, value: V, *, at_s: float, weight_bytes: int) -> None:
        """Add a value as of ``at_s``, unless there is a newer one; ``weight_bytes`` is its size and its key's."""
        known = self._entries.get(key)
        if known is not None and known[0] > at_s:
            return
        self._drop(key)
        weight_bytes += ENTRY_BYTES
        if self._ttl_s > 0 and weight_bytes <= self._bytes_max:
            self._entries[key] = (at_s, weight_bytes, value)
            self._bytes += weight_bytes
        oldest_s = self._monotonic() - self._ttl_s
        while self._entries:
            key, (at_s, _, _) = next(iter(self._entries.items()))
            if at_s >= oldest_s and self._bytes <= self._bytes_max:
                return
            self._drop(key)

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]


class CoalescingCache(Generic[K, V]):
    """A bounded cache that fetches missing values, coalescing concurrent requests. Lives in one event loop.

    Age counts from before the fetch, so a value is never older than it seems. Errors reach everybody waiting for that
    fetch and are not cached. A value older than ``refresh_after_s`` is still returned while one fetch renews it, so
    that nobody waits for popular values. One older than ``fresh_s`` is returned only while ``busy`` says so.
    ``weigh`` returns the size of a key and its value in bytes.
    """

    def __init__(  # noqa: PLR0913 - how old, how much, and by which clock
        self,
        *,
        ttl_s: float,
        monotonic: Callable[[], float],
        refresh_after_s: float | None = None,
        fresh_s: float = math.inf,
        busy: Callable[[], bool] = lambda: True,
        bytes_max: int = _FEW_BYTES,
        weigh: Callable[[K, V], int] = lambda _, __: 0,
    ) -> None:
        self._refresh_after_s = ttl_s if refresh_after_s is None else refresh_after_s
        self._fresh_s = fresh_s
        self._busy = busy
        self._monotonic = monotonic
        self._weigh = weigh
        self._values: BoundedCache[K, V] = BoundedCache(ttl_s=ttl_s, bytes_max=bytes_max, monotonic=monotonic)
        self._running: dict[tuple[K, str], asyncio.Task[V]] = {}

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]], caller: str = "") -> V:
        """The value of a key; calls ``fetch`` if it is missing or expired.

        If fetches queue by caller, ``caller`` names whose turn this one takes. Only requests of the same caller share
        it: otherwise a caller that waits long, or whose queue is full, would delay or fail the others.
        """
        cached = self._values.get(key)
        if cached is not None:
            age_s, value = cached
            if age_s <= self._fresh_s or self._busy():
                if age_s > self._refresh_after_s:
                    self._start(key, fetch, "")
                return value
        # A cancelled request must not cancel the fetch for the others.
        return await asyncio.shield(self._start(key, fetch, caller))

    def _start(self, key: K, fetch: Callable[[], Awaitable[V]], caller: str) -> asyncio.Task[V]:
        task = self._running.get((key, caller))
        if task is None:
            task = self._running[key, caller] = asyncio.create_task(self._fetch(key, fetch, caller))
            # A refresh may have nobody waiting for it; retrieve its error, or asyncio would log it.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[V]], caller: str) -> V:
        asked_at_s = self._monotonic()
        try:
            value = await fetch()
        finally:
            del self._running[key, caller]
        self._values.put(key, value, at_s=asked_at_s, weight_bytes=self._weigh(key, value))
        return value
