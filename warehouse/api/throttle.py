"""A throttle for anonymous queries that no cache can answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from warehouse.api.fair_queue import FairQueue
from warehouse.api.problems import ReadReason, unavailable

#: After a query, pause this many times as long as it took: anonymous queries get a quarter of one thread's time.
_REST: Final = 3
_REST_MAX_S: Final = 1.0


class Throttle:
    """Runs one query at a time with a pause after it; the others wait, by address, in turn. Lives in one event loop.

    A lone query does not wait. Without the throttle, a client requesting one receipt after the other could occupy all
    the threads for counts and all the warehouse's CPU.
    """

    def __init__(self, waiting_max: int) -> None:
        self._taken = False
        self._turns: FairQueue[asyncio.Future[None]] = FairQueue(waiting_max)

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it. Raises ``Problem`` 503 if too many wait, in all or from this address."""
        if self._taken:
            await self._wait(address)
        self._taken = True
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            yield
        finally:
            loop.call_later(min(_REST_MAX_S, _REST * (loop.time() - began_s)), self._leave)

    async def _wait(self, address: str) -> None:
        if not self._turns.has_room(address, 1):
            raise unavailable(ReadReason.QUEUE_FULL, "too many requests of this kind at a time; try again in a moment")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.put(address, [place])
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # the turn was handed over at the same moment
            raise

    def _leave(self) -> None:
        """Hand the turn to the next request that still waits."""
        for place in self._turns.take(1, 1, lambda place: not place.done()):
            place.set_result(None)
            return
        self._taken = False
