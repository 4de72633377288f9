"""Many readers, few queries: counts of creators, things and members, asked for together.

A query costs a millisecond or two however few rows it reads, so all that is wanted at one moment
goes into one query: while one runs, the next collects, and queries start at least ``pitch_s`` apart,
so that their number has a bound whatever is asked. Who comes alone does not wait. Button counters,
which every page view asks for, are kept for a second on top.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from warehouse.lag import Lag

V = TypeVar("V")
#: (month, id)
Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Counted(Generic[V]):
    """One count, with the lag that was read before it."""

    count: V
    lag: Lag
    read_at_s: float


class Batched(Generic[V]):
    """Counts by (month, id), at most ``ttl_s`` old. Lives in one event loop.

    ``fetch(month, ids)`` asks the warehouse for some; its errors reach everybody who waited for
    that query and are not kept. ``monotonic`` is the clock of age, in seconds.
    """

    def __init__(  # noqa: PLR0913 - how old, how many, how often, and by which clock
        self,
        fetch: Callable[[int, Sequence[str]], Awaitable[tuple[Lag, Mapping[str, V]]]],
        *,
        ttl_s: float,
        size_max: int,
        batch_max: int,
        monotonic: Callable[[], float],
        pitch_s: float = 0,
    ) -> None:
        self._fetch = fetch
        self._ttl_s = ttl_s
        self._size_max = size_max
        self._batch_max = batch_max
        self._monotonic = monotonic
        self._pitch_s = pitch_s
        self._next_at_s = 0.0
        self._kept: OrderedDict[Key, Counted[V]] = OrderedDict()
        self._awaited: dict[Key, asyncio.Future[Counted[V]]] = {}
        self._queue: list[Key] = []
        self._fetcher: asyncio.Task[None] | None = None

    async def get(self, month: int, ids: Iterable[str]) -> dict[str, Counted[V]]:
        """The counts asked for, from memory where they are young enough."""
        oldest = self._monotonic() - self._ttl_s
        found: dict[str, Counted[V]] = {}
        missing: dict[str, asyncio.Future[Counted[V]]] = {}
        for name in ids:
            kept = self._kept.get((month, name))
            if kept is not None and kept.read_at_s >= oldest:
                found[name] = kept
            else:
                missing[name] = self._await((month, name))
        if missing:
            found.update(zip(missing, await asyncio.gather(*missing.values()), strict=True))
        return found

    def _await(self, key: Key) -> asyncio.Future[Counted[V]]:
        future = self._awaited.get(key)
        if future is None:
            future = self._awaited[key] = asyncio.get_running_loop().create_future()
            self._queue.append(key)
            if self._fetcher is None:
                self._fetcher = asyncio.create_task(self._fetch_all())
        # A reader that goes away must not cancel what others wait for.
        return asyncio.shield(future)

    async def _fetch_all(self) -> None:
        """One query after the other until nobody waits; what comes meanwhile goes into the next."""
        try:
            while self._queue:
                pause_s = self._next_at_s - self._monotonic()
                if pause_s > 0:
                    # Who comes in the pause is read for after it, so nobody gets a count older than the question.
                    await asyncio.sleep(pause_s)
                month = self._queue[0][0]
                batch = [key for key in self._queue if key[0] == month][: self._batch_max]
                taken = set(batch)
                self._queue = [key for key in self._queue if key not in taken]
                await self._fetch_batch(month, batch)
        finally:
            self._fetcher = None

    async def _fetch_batch(self, month: int, batch: Sequence[Key]) -> None:
        read_at_s = self._monotonic()
        self._next_at_s = read_at_s + self._pitch_s
        try:
            lag, counts = await self._fetch(month, [name for _, name in batch])
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait, whatever it is
            for key in batch:
                future = self._awaited.pop(key)
                future.set_exception(error)
                # All who waited may have gone; an exception that nobody takes would be logged as lost.
                future.exception()
            return
        for key in batch:
            counted = Counted(counts[key[1]], lag, read_at_s)
            self._awaited.pop(key).set_result(counted)
            if self._ttl_s > 0:
                self._kept[key] = counted
                self._kept.move_to_end(key)
        while len(self._kept) > self._size_max:
            self._kept.popitem(last=False)
