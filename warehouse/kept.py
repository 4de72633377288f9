"""Answers kept for a moment: one query for all who ask the same at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by key, at most ``ttl_s`` old; the oldest leave when there are more than ``size_max``.

    All who ask for a key while its query runs share that query and its error; errors are not
    kept. Age counts from before the query, so a value is never older than it seems.
    """

    def __init__(self, *, ttl_s: float, size_max: int, monotonic: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._size_max = size_max
        self._monotonic = monotonic
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._running: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """The value of a key; ``fetch`` is called when it is not kept, or too old."""
        kept = self._values.get(key)
        if kept is not None and self._monotonic() - kept[0] <= self._ttl_s:
            return kept[1]
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._fetch(key, fetch))
        # Whoever goes away leaves the query to the others.
        return await asyncio.shield(task)

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        asked_at = self._monotonic()
        try:
            value = await fetch()
        finally:
            del self._running[key]
        if self._ttl_s > 0:
            self._values[key] = (asked_at, value)
            self._values.move_to_end(key)
            if len(self._values) > self._size_max:
                self._values.popitem(last=False)
        return value
