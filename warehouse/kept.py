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
    Whoever asks for a value older than ``ahead_s`` gets it and has it fetched anew meanwhile, so
    that nobody waits for what is asked for all the time.
    """

    def __init__(
        self, *, ttl_s: float, size_max: int, monotonic: Callable[[], float], ahead_s: float | None = None
    ) -> None:
        self._ttl_s = ttl_s
        self._ahead_s = ttl_s if ahead_s is None else ahead_s
        self._size_max = size_max
        self._monotonic = monotonic
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._running: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """The value of a key; ``fetch`` is called when it is not kept, or too old."""
        kept = self._values.get(key)
        age_s = None if kept is None else self._monotonic() - kept[0]
        if kept is not None and age_s is not None and age_s <= self._ttl_s:
            if age_s > self._ahead_s:
                self._start(key, fetch)
            return kept[1]
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
        if self._ttl_s > 0:
            self._values[key] = (asked_at, value)
            self._values.move_to_end(key)
            if len(self._values) > self._size_max:
                self._values.popitem(last=False)
        return value
