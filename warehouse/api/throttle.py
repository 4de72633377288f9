"""A narrow way to the warehouse for questions that anybody may ask and that no other answer serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from warehouse.api.fair_queue import FairQueue
from warehouse.api.problems import ReadReason, unavailable

#: After a question the lane rests for so many times as long as it took: a quarter of one thread's time is anybody's.
_REST: Final = 3
_REST_MAX_S: Final = 1.0


class Throttle:
    """One at a time with a rest behind it, and the others in turns of their addresses. Lives in one event loop.

    Who comes alone does not wait. Without it, whoever asks for one receipt after the other would hold every thread
    that counts are read by, and all of the warehouse's processor time.
    """

    def __init__(self, waiting_max: int) -> None:
        self._taken = False
        self._turns: FairQueue[asyncio.Future[None]] = FairQueue(waiting_max)

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for the place and hold it. Raises ``Problem`` 503 when too many wait, or too many of this address."""
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
            raise unavailable(ReadReason.QUEUE_FULL, "too many ask this at a time; ask again soon")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.put(address, [place])
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # it was handed over in the same moment
            raise

    def _leave(self) -> None:
        """Hand the place to the next who still waits."""
        for place in self._turns.take(1, 1, lambda place: not place.done()):
            place.set_result(None)
            return
        self._taken = False
