"""The budgets of one process: connections, and bytes of requests that are unfinished or unanswered.

Each address (ingest/runtime/client_address.py) gets a bounded share of both. When a budget runs out, connections are
evicted before anybody is refused: from the heaviest address, first the idle ones, or those that have held the most
bytes for longest. A connection that waits for our answer is never evicted. So a flood of partial requests evicts
itself, and complete requests are served.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from ingest.contract.rejection import Reason
from ingest.runtime.client_address import Network
from ingest.runtime.refusal import Refused

_SWEEP_S: Final = 0.5
#: Descriptors reserved for the broker, the spool and the log.
_OTHER_FILES: Final = 128
#: Evict this much more than needed, so that a flood does not trigger a search each time.
_ROOM: Final = 1 / 8
#: How long not to search again after a search that found nothing.
_FRUITLESS_S: Final = 0.05
#: From mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_RETURNED_BYTES: Final = 128 * 1024
#: How much free memory stays with a process that reuses large blocks of it, in such blocks.
_REUSED_BLOCKS: Final = 4
_YOUNG_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a port; docs/ingest.md, "Bounds", gives the reasons."""

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
    """What an address holds now."""

    __slots__ = ("bytes", "connections", "is_limited", "name")

    def __init__(self, name: str, *, is_limited: bool) -> None:
        self.name = name
        self.is_limited = is_limited
        self.connections = 0
        self.bytes = 0


class Account:
    """What one connection holds, and which share it counts against."""

    __slots__ = ("_budgets", "charged", "holder", "own")

    def __init__(self, budgets: Budgets, own: AddressShare) -> None:
        self._budgets = budgets
        self.own = own
        #: The peer's own share, or that of the client a trusted proxy speaks for.
        self.holder = own
        self.charged = 0

    def charge(self, size: int) -> bool:
        """Add bytes that are held; False when there is no room for them."""
        budgets, share = self._budgets, self.holder
        self.charged += size
        share.bytes += size
        budgets.bytes += size
        if budgets.bytes > budgets.bounds.bodies_max_bytes or share.bytes > budgets.share_bytes_max:
            return size < 0 or budgets.relieve(share)
        return True

    def release(self, retained: int = 0) -> None:
        """Release a finished request's bytes, except ``retained`` ones of the next request, whose client is unknown."""
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
        """Charge the request to the client that the proxy names; False when that address has too many in flight."""
        self.own.bytes -= self.charged
        named.bytes += self.charged
        self.holder = named
        named.connections += 1
        most = self._budgets.share_connections_max
        if named.is_limited and named.connections > most:
            self._budgets.end_waiting(named, client)
        return not named.is_limited or named.connections <= most


class Client(Protocol):
    """A connection, as the budgets see it."""

    #: When we began to wait for it, by the monotonic clock; 0.0 while it waits for us.
    waiting_since: float

    #: Whether no request is in progress.
    is_idle: bool

    @property
    def share(self) -> AddressShare:
        """The peer's share."""

    @property
    def holder(self) -> AddressShare:
        """The share that the current request counts against."""

    @property
    def held_bytes(self) -> int:
        """The bytes it holds."""

    @property
    def is_loose(self) -> bool:
        """Whether it holds part of a request."""

    def give_way(self, reason: Reason) -> None:
        """Close at once."""

    def check_time(self, now: float) -> int:
        """Close the connection if it is too slow; return the bytes of answers that its client has not read."""


class Budgets:
    """The connections of one process and what they hold.

    ``refused`` counts a refusal and returns its status and body. Blocks of memory of ``returned_bytes`` and more go
    back to the system at once.
    """

    def __init__(
        self,
        bounds: Bounds,
        refused: Callable[[Refused], tuple[int, bytes]],
        *,
        returned_bytes: int = _RETURNED_BYTES,
    ) -> None:
        _give_memory_back(returned_bytes)
        self.bounds = bounds
        self.refused = refused
        self.connections_max = min(bounds.connections_max, _files_max() - _OTHER_FILES)
        self.share_connections_max = max(1, int(self.connections_max * bounds.address_share))
        self.share_bytes_max = max(bounds.body_max_bytes, int(bounds.bodies_max_bytes * bounds.address_share))
        self.clients: set[Client] = set()
        self.bytes = 0
        #: Connections that were evicted.
        self.gave_way = 0
        #: A cache of the headers of every answer, with the list they were made from.
        self.common_headers: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")
        self._shares: dict[str, AddressShare] = {}
        self._fruitless_until = 0.0
        self._sweeping = False

    def account(self, name: str, *, is_limited: bool) -> Account:
        """An account for a new connection from an address."""
        return Account(self, self.share(name, is_limited=is_limited))

    def share(self, name: str, *, is_limited: bool = True) -> AddressShare:
        """An address's share; call ``forget`` when it is empty."""
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = AddressShare(name, is_limited=is_limited)
        return share

    def forget(self, share: AddressShare) -> None:
        """Drop the share of an address that holds nothing."""
        if not share.connections and not share.bytes:
            self._shares.pop(share.name, None)

    def now(self) -> tuple[int, int, int]:
        """Open connections, the bytes they hold, and how many connections were evicted so far."""
        return len(self.clients), self.bytes, self.gave_way

    def join(self, client: Client) -> bool:
        """Admit a new connection; False when there is no room for it."""
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
        """Remove a connection. Idempotent."""
        if client in self.clients:
            self.clients.discard(client)
            client.share.connections -= 1
            self.forget(client.share)

    def relieve(self, share: AddressShare) -> bool:
        """Make room for bytes that already exceed a bound; False when that fails."""
        if not self._fits(share) and time.monotonic() >= self._fruitless_until:
            self._end_loose(share)
            if not self._fits(share):
                self._fruitless_until = time.monotonic() + _FRUITLESS_S
        return self._fits(share)

    def _fits(self, share: AddressShare) -> bool:
        fits = not share.is_limited or share.bytes <= self.share_bytes_max
        return fits and self.bytes <= self.bounds.bodies_max_bytes

    def end_waiting(self, share: AddressShare | None, newest: Client) -> None:
        """Evict other connections that keep us waiting, idle ones first, of one address or of the heaviest."""
        share = share or max(self._shares.values(), key=lambda held: held.connections)
        waiting = [
            other for other in self.clients if other.holder is share and other.waiting_since and other is not newest
        ]
        # A connection that has just opened does not count as idle: its request is on the way.
        young = time.monotonic() - _YOUNG_S
        waiting.sort(key=lambda other: (other.waiting_since > young, not other.is_idle, other.waiting_since))
        for client in waiting[: 1 + int(share.connections * _ROOM)]:
            self._end(client, Reason.CONNECTIONS_FULL)

    def _end_loose(self, share: AddressShare) -> None:
        """Evict partial requests, first those that held the most for longest, of one address or of the heaviest."""
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
        """Check the time limits of every connection: one timer for all of them."""
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


def _give_memory_back(least_bytes: int) -> None:
    """Make glibc return the memory of large blocks to the system.

    Its threshold for mmap adapts up to 32 MB as blocks are freed: 16 MB of partial bodies that come and go then cost
    70 MB. With a fixed threshold, blocks of that size or more are mapped separately and unmapped when freed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, least_bytes)
        if least_bytes > _RETURNED_BYTES:
            mallopt(_M_TRIM_THRESHOLD, _REUSED_BLOCKS * least_bytes)


def _files_max() -> int:
    """How many descriptors this process may open; raises the soft limit towards the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
