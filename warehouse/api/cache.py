"""Answers cached for a moment, bounded in age and in bytes: strangers choose the keys of every cache of the API."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: What an entry costs beside what it holds: two places in dictionaries, a tuple and some numbers.
ENTRY_BYTES: Final = 400
#: Short Python objects weigh so many times what they weigh as JSON.
_OBJECTS: Final = 4
_FEW_BYTES: Final = 1 << 20


def weight_of(value: object) -> int:
    """About what a value of lists and dataclasses weighs in memory, in bytes."""
    return _OBJECTS * len(msgspec.json.encode(value))


class BoundedCache(Generic[K, V]):
    """Values by key, none older than ``ttl_s``, by ``monotonic``, in seconds.

    Whenever one is added, those that are too old leave, and then the oldest while all together weigh more than
    ``bytes_max``. A value that alone weighs more is not cached.
    """

    def __init__(self, *, ttl_s: float, bytes_max: int, monotonic: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._bytes_max = bytes_max
        self._monotonic = monotonic
        #: when it was true, what it weighs, the value; the oldest first
        self._entries: OrderedDict[K, tuple[float, int, V]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> tuple[float, V] | None:
        """The value's age in seconds, and the value; None when there is none that is young enough."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age_s = self._monotonic() - entry[0]
        return None if age_s > self._ttl_s else (age_s, entry[2])

    def put(self, key: K, value: V, *, at_s: float, weight_bytes: int) -> None:
        """Add a value that was true at ``at_s``, unless a newer is there; ``weight_bytes`` is its own and its key's."""
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
    """A bounded cache that fetches what it lacks, once for all who ask at the same time. Lives in one event loop.

    Age counts from before the fetch, so a value is never older than it seems. Errors reach all who wait for that
    fetch and are not cached. Whoever asks for a value older than ``refresh_after_s`` gets it, and one fetch renews
    it meanwhile, so that nobody waits for what is asked for all the time. ``weigh`` says what a key and its value
    weigh, in bytes.
    """

    def __init__(
        self,
        *,
        ttl_s: float,
        monotonic: Callable[[], float],
        refresh_after_s: float | None = None,
        bytes_max: int = _FEW_BYTES,
        weigh: Callable[[K, V], int] = lambda _, __: 0,
    ) -> None:
        self._refresh_after_s = ttl_s if refresh_after_s is None else refresh_after_s
        self._monotonic = monotonic
        self._weigh = weigh
        self._values: BoundedCache[K, V] = BoundedCache(ttl_s=ttl_s, bytes_max=bytes_max, monotonic=monotonic)
        self._running: dict[tuple[K, str], asyncio.Task[V]] = {}

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]], caller: str = "") -> V:
        """The value of a key; ``fetch`` is called when none is young enough.

        Where fetches wait for the turns of their callers, ``caller`` says whose turn that is: only the same caller's
        requests share it, or one that waits long, or has no more room to wait, would drag the others along.
        """
        cached = self._values.get(key)
        if cached is not None:
            age_s, value = cached
            if age_s > self._refresh_after_s:
                self._start(key, fetch, "")
            return value
        # Whoever goes away leaves the fetch to the others.
        return await asyncio.shield(self._start(key, fetch, caller))

    def _start(self, key: K, fetch: Callable[[], Awaitable[V]], caller: str) -> asyncio.Task[V]:
        task = self._running.get((key, caller))
        if task is None:
            task = self._running[key, caller] = asyncio.create_task(self._fetch(key, fetch, caller))
            # Nobody may wait for it: an error that nobody takes would be logged as lost.
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
