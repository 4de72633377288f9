"""A narrow way to the warehouse for questions that anybody may ask and that no other answer serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from warehouse.problems import ReadReason, unavailable
from warehouse.turns import Turns


class Lane:
    """So many at a time, and the others in turns of their addresses. Lives in one event loop.

    Without it, whoever asks for one receipt after the other would hold every thread that counts are read by.
    """

    def __init__(self, places: int, waiting_max: int) -> None:
        self._free = places
        self._turns: Turns[asyncio.Future[None]] = Turns(waiting_max)

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises ``Problem`` 503 when too many wait, or too many of this address."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(address)
        try:
            yield
        finally:
            self._leave()

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
        self._free += 1
