"""Answers kept for a moment: one query for all who ask the same at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import msgspec

from warehouse.api.bounded_cache import BoundedCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


#: Objects of Python weigh so many times what they weigh as JSON, short ones.
_OBJECTS: Final = 4
_FEW_BYTES: Final = 1 << 20


def weight_of(value: object) -> int:
    """About what a value of lists and dataclasses weighs in memory, in bytes."""
    return _OBJECTS * len(msgspec.json.encode(value))


class CoalescingCache(Generic[K, V]):
    """Values by key, at most ``ttl_s`` old; the oldest leave when all, as ``weigh`` has it, exceed ``bytes_max``.

    All who ask for a key while its query runs share that query and its error; errors are not
    kept. Age counts from before the query, so a value is never older than it seems.
    Whoever asks for a value older than ``refresh_after_s`` gets it and has it fetched anew meanwhile, so
    that nobody waits for what is asked for all the time.
    """

    def __init__(
        self,
        *,
        ttl_s: float,
        monotonic: Callable[[], float],
        refresh_after_s: float | None = None,
        bytes_max: int = _FEW_BYTES,
        weigh: Callable[[V], int] = lambda _: 0,
    ) -> None:
        self._refresh_after_s = ttl_s if refresh_after_s is None else refresh_after_s
        self._monotonic = monotonic
        self._weigh = weigh
        self._values: BoundedCache[K, V] = BoundedCache(ttl_s=ttl_s, bytes_max=bytes_max, monotonic=monotonic)
        self._running: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """The value of a key; ``fetch`` is called when it is not kept, or too old."""
        cached = self._values.get(key)
        if cached is not None:
            if self._monotonic() - cached[0] > self._refresh_after_s:
                self._start(key, fetch)
            return cached[1]
        # Whoever goes away leaves the query to the others.
        return await asyncio.shield(self._start(key, fetch))

    def _start(self, key: K, fetch: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._fetch(key, fetch))
            # Nobody may wait for it: an error that nobody takes would be logged as lost.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        asked_at = self._monotonic()
        try:
            value = await fetch()
        finally:
            del self._running[key]
        self._values.put(key, value, at_s=asked_at, weight_bytes=self._weigh(value))
        return value
