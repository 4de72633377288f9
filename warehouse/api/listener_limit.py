"""Places at the live stream: so many in all, some for clients with a key, and so many for one address without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Strangers may take all but one of so many parts.
_SHARES: Final = 4


class ListenerLimit:
    """Who listens. ``address`` is None for a client with a key: it has a seat as long as there is any."""

    def __init__(self, seats_max: int, of_address_max: int, *, reserve: bool) -> None:
        self._seats_max = seats_max
        self._strangers_max = seats_max - seats_max // _SHARES if reserve else seats_max
        self._of_address_max = of_address_max
        self._taken = 0
        self._strangers = 0
        self._of_address: Counter[str] = Counter()

    def free(self, address: str | None) -> bool:
        """Whether somebody may sit down."""
        if self._taken >= self._seats_max:
            return False
        return address is None or (
            self._strangers < self._strangers_max and self._of_address[address] < self._of_address_max
        )

    @contextmanager
    def taken(self, address: str | None) -> Iterator[None]:
        """Hold a seat. Ask ``free`` before, in the same turn of the loop."""
        self._sit(address, 1)
        try:
            yield
        finally:
            self._sit(address, -1)

    def _sit(self, address: str | None, change: int) -> None:
        self._taken += change
        if address is not None:
            self._strangers += change
            self._of_address[address] += change
            if not self._of_address[address]:
                del self._of_address[address]
