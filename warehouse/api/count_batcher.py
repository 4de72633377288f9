"""Many readers, few queries: counts of creators, things and members are fetched in batches.

A query costs a millisecond or two however few rows it reads, so concurrent requests share one, whatever their months.
While a query runs, the next batch collects. After it the batcher rests for as long as the query took, at most until
``pitch_s`` after its start. So quick queries take half of a connection's time at most, slow ones start a pitch apart,
and a lone request does not wait. Large requests wait behind small ones, and the queue is bounded. Button counters,
which every page view requests, are also cached for a second, or for a quarter of one while none is asked for as often.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from warehouse.api.cache import BoundedCache
from warehouse.api.fair_queue import FairQueue
from warehouse.api.problems import ReadReason, unavailable
from warehouse.counts.counts import Key
from warehouse.counts.lag import Lag

V = TypeVar("V")

#: Size of a key with an id of 64 characters, and its count.
_CACHED_BYTES: Final = 240


@dataclass(frozen=True, slots=True)
class Counted(Generic[V]):
    """One count, with the lag that was read before it."""

    count: V
    lag: Lag
    read_at_s: float


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """Limits on keys: per query, per caller in a query, and waiting."""

    batch: int = 500
    batch_of_caller: int = 200
    waiting: int = 8000


class _Reader(Generic[V]):
    """A request waiting for some counts. It has one future for all of them: one each would cost more than the count.

    Cancelling it leaves alone what others wait for.
    """

    __slots__ = ("done", "found", "missing")

    def __init__(self, found: dict[str, Counted[V]], missing: int) -> None:
        self.done: asyncio.Future[dict[str, Counted[V]]] = asyncio.get_running_loop().create_future()
        self.found = found
        self.missing = missing

    def take(self, name: str, counted: Counted[V]) -> None:
        self.found[name] = counted
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(self.found)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class CountBatcher(Generic[V]):
    """Counts by (month, id), at most ``ttl_s`` old. Lives in one event loop.

    ``fetch(keys)`` queries the warehouse; its errors reach everybody waiting for that query and are not cached.
    ``monotonic`` is the clock for ages, in seconds. ``weigh`` returns the variable part of a count's size in bytes,
    and cached counts take at most ``bytes_max`` in all.
    """

    def __init__(  # noqa: PLR0913 - how old, how many, how often, and by which clock
        self,
        fetch: Callable[[Sequence[Key]], Awaitable[tuple[Lag, Mapping[Key, V]]]],
        *,
        ttl_s: float,
        bytes_max: int,
        monotonic: Callable[[], float],
        bounds: BatchBounds = BatchBounds(),
        pitch_s: float = 0,
        fresh_s: float = math.inf,
        weigh: Callable[[V], int] = lambda _: 0,
    ) -> None:
        self._fetch = fetch
        self._bounds = bounds
        self._weigh = weigh
        self._monotonic = monotonic
        self._pitch_s = pitch_s
        self._fresh_s = fresh_s
        self._next_at_s = 0.0
        self._queried_at_s = -math.inf
        self._cached: BoundedCache[Key, Counted[V]] = BoundedCache(
            ttl_s=ttl_s, bytes_max=bytes_max, monotonic=monotonic
        )
        self._awaited: dict[Key, list[_Reader[V]]] = {}
        #: awaited keys that are in no query yet
        self._pending: set[Key] = set()
        self._turns: FairQueue[Key] = FairQueue(bounds.waiting)
        self._fetcher: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a query is running, or began within ``fresh_s``: then counts may be ``ttl_s`` old.

        So that freshness costs a few queries a second, whatever is asked.
        """
        return self._fetcher is not None or self._monotonic() - self._queried_at_s < self._fresh_s

    async def get(self, month: int, ids: Iterable[str], caller: str = "") -> dict[str, Counted[V]]:
        """The counts of these ids, from the cache if they are fresh; ``caller`` names whose turn the others take.

        Raises ``Problem`` 503 if too much is waiting, and whatever ``fetch`` raises.
        """
        found: dict[str, Counted[V]] = {}
        missing: list[str] = []
        for name in ids:
            cached = self._cached.get((month, name))
            if cached is None or (cached[0] > self._fresh_s and not self.busy):
                missing.append(name)
            else:
                found[name] = cached[1]
        if missing:
            await self._wait([(month, name) for name in missing], found, caller)
        return found

    def _wait(
        self, keys: Sequence[Key], found: dict[str, Counted[V]], caller: str
    ) -> asyncio.Future[dict[str, Counted[V]]]:
        # Keys in a running query need no turn; keys that only wait also get this caller's turns.
        waiting = [key for key in keys if key not in self._awaited or key in self._pending]
        if not self._turns.has_room(caller, len(waiting)):
            raise unavailable(ReadReason.QUEUE_FULL, "too many counts are requested at a time; try again in a moment")
        self._turns.put(caller, waiting)
        reader = _Reader(found, len(keys))
        for key in keys:
            readers = self._awaited.get(key)
            if readers is None:
                self._awaited[key] = [reader]
                self._pending.add(key)
            else:
                readers.append(reader)
        if self._fetcher is None and waiting:
            self._fetcher = asyncio.create_task(self._fetch_all())
        return reader.done

    async def _fetch_all(self) -> None:
        """Run one query after the other until nobody waits; requests in between go into the next."""
        try:
            while self._pending:
                pause_s = self._next_at_s - self._monotonic()
                if pause_s > 0:
                    # Take the batch after the pause: requests made during it must not get older counts.
                    await asyncio.sleep(pause_s)
                await self._fetch_batch(self._take())
        finally:
            self._fetcher = None

    def _take(self) -> list[Key]:
        """The next batch, each key once, however many requests wait for it."""

        def wanted(key: Key) -> bool:
            if key not in self._pending:
                return False
            self._pending.discard(key)
            return True

        return self._turns.take(self._bounds.batch, self._bounds.batch_of_caller, wanted)

    async def _fetch_batch(self, batch: Sequence[Key]) -> None:
        read_at_s = self._queried_at_s = self._monotonic()
        self._next_at_s = read_at_s + self._pitch_s
        try:
            lag, counts = await self._fetch(batch)
        except Exception as error:  # noqa: BLE001 - any error is passed on to those who wait
            for key in batch:
                for reader in self._awaited.pop(key):
                    reader.fail(error)
            return
        ended_at_s = self._monotonic()
        self._next_at_s = min(self._next_at_s, ended_at_s + (ended_at_s - read_at_s))
        for key in batch:
            counted = Counted(counts[key], lag, read_at_s)
            for reader in self._awaited.pop(key):
                reader.take(key[1], counted)
            self._cached.put(key, counted, at_s=read_at_s, weight_bytes=_CACHED_BYTES + self._weigh(counted.count))
