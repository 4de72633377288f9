"""Seats of the live stream: a total, a reserve for clients with a key, and a limit per address without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: One seat in this many is reserved for clients with a key.
_SHARES: Final = 4


class ListenerLimit:
    """Counts listeners. ``address`` is None for a client with a key, which gets any free seat."""

    def __init__(self, seats_max: int, of_address_max: int, *, reserve: bool) -> None:
        self._seats_max = seats_max
        self._strangers_max = seats_max - seats_max // _SHARES if reserve else seats_max
        self._of_address_max = of_address_max
        #: seats taken, by address; None for all clients with a key
        self._taken: Counter[str | None] = Counter()

    def free(self, address: str | None) -> bool:
        """Whether there is a seat for this client."""
        taken = self._taken.total()
        if taken >= self._seats_max:
            return False
        strangers = taken - self._taken[None]
        return address is None or (strangers < self._strangers_max and self._taken[address] < self._of_address_max)

    @contextmanager
    def taken(self, address: str | None) -> Iterator[None]:
        """Hold a seat. Call ``free`` first, without awaiting in between."""
        self._taken[address] += 1
        try:
            yield
        finally:
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]
