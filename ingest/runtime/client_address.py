"""The address that a request counts against in limits per address.

That is an IPv4 address or the /64 of an IPv6 address, since every subscriber has at least a /64 of addresses to choose
from. Behind a trusted proxy it is the address that the proxy names; headers from anybody else are ignored, as anybody
can write them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Final

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

Network = IPv4Network | IPv6Network
Headers = Iterable[tuple[bytes, bytes]]
#: Peers without an address, such as those of a Unix socket; they share one name.
NOBODY: Final = ""
#: The longest chain of proxies that is followed.
_HOPS_MAX: Final = 16


def networks(text: object) -> tuple[Network, ...]:
    """``10.0.0.0/8, 192.0.2.7`` as networks. Raises ``ValueError`` with a message for users."""
    if not isinstance(text, str):
        return tuple(text)  # type: ignore[arg-type] # pydantic checks the elements
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"must be networks such as 10.0.0.0/8, 192.0.2.7: {error}") from None


#: The type of a setting: networks separated by commas.
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(networks)]


@lru_cache(16_384)
def share_of(host: str | None) -> str:
    """The name of an address's share: ``192.0.2.7``, ``2001:db8:0:1::/64``, or ``NOBODY`` if it is not an address."""
    address = _address(host or "")
    if address is None:
        return NOBODY
    if isinstance(address, IPv6Address):
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


@lru_cache(16_384)
def is_trusted(host: str | None, trusted: tuple[Network, ...]) -> bool:
    """Whether this peer is a trusted proxy."""
    address = _address(host or "")
    return address is not None and any(address.version == network.version and address in network for network in trusted)


def client_address(peer: str | None, headers: Headers, trusted: tuple[Network, ...]) -> str:
    """The share that a request from ``peer`` (a host, or None) counts against. Header names are in lower case.

    Behind trusted proxies it is the rightmost address in ``X-Forwarded-For`` that is not a trusted proxy. If an entry
    is not an address, it is the proxy that added the entry.
    """
    if not trusted or not is_trusted(peer, trusted):
        return share_of(peer)
    hops = b",".join([value for name, value in headers if name == b"x-forwarded-for"]).split(b",")
    nearest = peer
    for hop in reversed(hops[-_HOPS_MAX:]):
        host = _host(hop.decode("latin-1").strip())
        if _address(host) is None:
            break
        nearest = host
        if not is_trusted(host, trusted):
            break
    return share_of(nearest)


def _host(hop: str) -> str:
    """An entry without its port and brackets."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
