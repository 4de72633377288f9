"""Whose request it is, as an address: limits per address count by it, whatever the port.

A share of what a process has is given to an IPv4 address, or to the /64 of an IPv6 one, since a subscriber holds at
least that much and would otherwise be billions. A proxy stands for its clients: where it is trusted, the address is
what it says it got the request from. Nobody else is asked: anybody can write a header.

Pure: addresses and headers in, a name out.
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
#: Who has no address, such as the peers of a Unix socket: one share for all.
NOBODY: Final = ""
#: So many proxies in a row are believed.
_HOPS_MAX: Final = 16


def networks(text: object) -> tuple[Network, ...]:
    """``10.0.0.0/8, 192.0.2.7`` as networks. Raises ``ValueError`` with a sentence."""
    if not isinstance(text, str):
        return tuple(text)  # type: ignore[arg-type] # pydantic checks what is in it
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"networks are written 10.0.0.0/8, 192.0.2.7: {error}") from None


#: The type of a setting: networks with commas between them.
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(networks)]


@lru_cache(16_384)
def share_of(host: str | None) -> str:
    """The name of an address's share: ``192.0.2.7``, ``2001:db8:0:1::/64``, or ``NOBODY`` for what is no address."""
    address = _address(host or "")
    if address is None:
        return NOBODY
    if isinstance(address, IPv6Address):
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


@lru_cache(16_384)
def is_trusted(host: str | None, trusted: tuple[Network, ...]) -> bool:
    """Whether what this peer says about addresses is believed."""
    address = _address(host or "")
    return address is not None and any(address.version == one.version and address in one for one in trusted)


def client_address(peer: str | None, headers: Headers, trusted: tuple[Network, ...]) -> str:
    """The share that a request from ``peer`` (its host, None without one) counts against.

    Behind trusted proxies it is the rightmost address of ``X-Forwarded-For`` that is none of theirs. Where an entry
    is no address, it is the proxy that passed it on. Header names are in lower case.
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
    """An entry without port and brackets."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
