"""What one process has for its clients: so many connections, so many bytes of what is unfinished or unanswered.

Both are dealt out by address (ingest/runtime/client_address.py): no address holds more than its share. When
something runs out, room is made before anybody is refused. Whoever does nothing, or has held most for longest, goes
first, from the address that holds most; whoever waits for our answer is never sent away. So a flood of half requests
ends its own half requests, and a request that is here as a whole is served.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from ingest.admission.refusal import Refused
from ingest.contract.rejection import Reason
from ingest.runtime.client_address import Network

_SWEEP_S: Final = 0.5
#: Descriptors that are not clients': the broker, the spool, the log.
_OTHER_FILES: Final = 128
#: Room is made for so much more than the one who asks needs, so that a flood does not pay for a search each time.
_ROOM: Final = 1 / 8
#: After a search that found nothing, so long nobody searches.
_FRUITLESS_S: Final = 0.05
#: Of mallopt(3).
_M_MMAP_THRESHOLD: Final = -3
_YOUNG_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may use of a port. docs/ingest.md, "Bounds", says why."""

    head_max_bytes: int
    head_timeout_s: float
    body_max_bytes: int
    body_timeout_s: float
    keep_alive_s: float
    write_timeout_s: float
    connections_max: int
    bodies_max_bytes: int
    address_share: float
    trusted_proxies: tuple[Network, ...] = ()


class AddressShare:
    """What an address holds at the moment."""

    __slots__ = ("bytes", "connections", "is_limited", "name")

    def __init__(self, name: str, *, is_limited: bool) -> None:
        self.name = name
        self.is_limited = is_limited
        self.connections = 0
        self.bytes = 0


class Account:
    """What one connection holds, and whose share it is in."""

    __slots__ = ("_budgets", "charged", "holder", "own")

    def __init__(self, budgets: Budgets, own: AddressShare) -> None:
        self._budgets = budgets
        self.own = own
        #: The peer's own share, or that of whom a trusted proxy speaks for.
        self.holder = own
        self.charged = 0

    def charge(self, size: int) -> bool:
        """Count bytes that are held; False when there is no room for them."""
        budgets, share = self._budgets, self.holder
        self.charged += size
        share.bytes += size
        budgets.bytes += size
        if budgets.bytes > budgets.bounds.bodies_max_bytes or share.bytes > budgets.share_bytes_max:
            return size < 0 or budgets.relieve(share)
        return True

    def release(self, retained: int = 0) -> None:
        """An answer is out, or never will be; so much is still held, for a request that nobody has named yet."""
        size = self.charged - retained
        self.charged = retained
        self.holder.bytes -= size
        self._budgets.bytes -= size
        if self.holder is not self.own:
            named, self.holder = self.holder, self.own
            named.bytes -= retained
            self.own.bytes += retained
            named.connections -= 1
            self._budgets.forget(named)

    def name(self, named: AddressShare, client: Client) -> bool:
        """Count the request for whom the proxy names; False when that address has as many under way as it may."""
        self.own.bytes -= self.charged
        named.bytes += self.charged
        self.holder = named
        named.connections += 1
        most = self._budgets.share_connections_max
        if named.is_limited and named.connections > most:
            self._budgets.end_waiting(named, client)
        return not named.is_limited or named.connections <= most


class Client(Protocol):
    """A connection, as far as it takes room."""

    #: Since when we wait for it, by the monotonic clock; 0.0 while it waits for us.
    waiting_since: float

    #: Whether no request is under way.
    is_idle: bool

    @property
    def share(self) -> AddressShare:
        """Its peer's share."""

    @property
    def holder(self) -> AddressShare:
        """Whose share the request under way is in."""

    @property
    def held_bytes(self) -> int:
        """What it holds."""

    @property
    def is_loose(self) -> bool:
        """Whether it holds bytes that are no whole request yet."""

    def give_way(self, reason: Reason) -> None:
        """End at once."""

    def check_time(self, now: float) -> int:
        """End when it is too slow; the bytes of answers that it has not taken."""


class Budgets:
    """The connections of one process, and what they hold.

    ``refused`` counts a refusal and says it: status and body.
    """

    def __init__(self, bounds: Bounds, refused: Callable[[Refused], tuple[int, bytes]]) -> None:
        _give_memory_back()
        self.bounds = bounds
        self.refused = refused
        self.connections_max = min(bounds.connections_max, _files_max() - _OTHER_FILES)
        self.share_connections_max = max(1, int(self.connections_max * bounds.address_share))
        self.share_bytes_max = max(bounds.body_max_bytes, int(bounds.bodies_max_bytes * bounds.address_share))
        self.clients: set[Client] = set()
        self.bytes = 0
        #: Connections that ended before their time, to make room.
        self.gave_way = 0
        #: The headers of every answer, and what they were made of.
        self.common_headers: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")
        self._shares: dict[str, AddressShare] = {}
        self._fruitless_until = 0.0
        self._sweeping = False

    def account(self, name: str, *, is_limited: bool) -> Account:
        """For a new connection of an address."""
        return Account(self, self.share(name, is_limited=is_limited))

    def share(self, name: str, *, is_limited: bool = True) -> AddressShare:
        """An address's share. Give it back with ``forget`` when nothing is in it."""
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = AddressShare(name, is_limited=is_limited)
        return share

    def forget(self, share: AddressShare) -> None:
        """Forget an address that holds nothing."""
        if not share.connections and not share.bytes:
            self._shares.pop(share.name, None)

    def now(self) -> tuple[int, int, int]:
        """Connections, the bytes that they hold, and how many connections were ended to make room."""
        return len(self.clients), self.bytes, self.gave_way

    def join(self, client: Client) -> bool:
        """Take a new connection in; False when there is no room for it."""
        share = client.share
        share.connections += 1
        self.clients.add(client)
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        if share.is_limited and share.connections > self.share_connections_max:
            self.end_waiting(share, client)
        elif len(self.clients) > self.connections_max:
            self.end_waiting(None, client)
        fits = not share.is_limited or share.connections <= self.share_connections_max
        return fits and len(self.clients) <= self.connections_max

    def leave(self, client: Client) -> None:
        """A connection is gone, or as good as gone. May be said twice."""
        if client in self.clients:
            self.clients.discard(client)
            client.share.connections -= 1
            self.forget(client.share)

    def relieve(self, share: AddressShare) -> bool:
        """Make room for bytes that are over a bound already; False when they have to go."""
        if not self._fits(share) and time.monotonic() >= self._fruitless_until:
            self._end_loose(share)
            if not self._fits(share):
                self._fruitless_until = time.monotonic() + _FRUITLESS_S
        return self._fits(share)

    def _fits(self, share: AddressShare) -> bool:
        fits = not share.is_limited or share.bytes <= self.share_bytes_max
        return fits and self.bytes <= self.bounds.bodies_max_bytes

    def end_waiting(self, share: AddressShare | None, newest: Client) -> None:
        """End others that keep us waiting, the idle ones first; of one address, or of the heaviest."""
        share = share or max(self._shares.values(), key=lambda one: one.connections)
        waiting = [one for one in self.clients if one.holder is share and one.waiting_since and one is not newest]
        # Who has just come is not idle yet: its request is on the way.
        young = time.monotonic() - _YOUNG_S
        waiting.sort(key=lambda one: (one.waiting_since > young, not one.is_idle, one.waiting_since))
        for client in waiting[: 1 + int(share.connections * _ROOM)]:
            self._end(client, Reason.CONNECTIONS_FULL)

    def _end_loose(self, share: AddressShare) -> None:
        """End half requests, those first that held most for longest; of one address, or of the heaviest ones."""
        alone = share.is_limited and share.bytes > self.share_bytes_max
        loose = [client for client in self.clients if client.is_loose and (not alone or client.holder is share)]
        now = time.monotonic()
        loose.sort(key=lambda one: (-one.holder.bytes, -one.held_bytes * (now - (one.waiting_since or now))))
        for client in loose:
            self._end(client, Reason.BODIES_FULL)
            if alone and share.bytes <= self.share_bytes_max * (1 - _ROOM):
                return
            if not alone and self.bytes <= self.bounds.bodies_max_bytes * (1 - _ROOM):
                return

    def _end(self, client: Client, reason: Reason) -> None:
        self.gave_way += 1
        client.give_way(reason)

    def _sweep(self) -> None:
        """Ask every connection for the time: one timer for all, while there are any."""
        now = time.monotonic()
        unread = sorted(self._unread(now), key=lambda pair: -pair[0])
        beyond = sum(size for size, _ in unread) - self.bounds.bodies_max_bytes
        for size, client in unread:
            if beyond <= 0:
                break
            self._end(client, Reason.BODIES_FULL)
            beyond -= size
        self._sweeping = bool(self.clients)
        if self._sweeping:
            asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _unread(self, now: float) -> Iterator[tuple[int, Client]]:
        for client in list(self.clients):
            size = client.check_time(now)
            if size:
                yield size, client


def _give_memory_back() -> None:
    """Let what a large body took go back to the system with it.

    glibc keeps blocks of up to 32 MB for later, once it has seen one of them freed: 16 MB of half bodies that come and
    go then cost 70 MB. Asked to, it maps whatever has 128 kB on its own, and unmaps it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


def _files_max() -> int:
    """How many descriptors this process may open: as many as it may allow itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
