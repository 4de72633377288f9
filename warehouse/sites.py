"""A site as keys name it: the host, and a port that is not the default, of the addresses of its things. Pure."""

from __future__ import annotations

from ingest.contract import thing as things
from ingest.contract.thing import canonical, is_address
from ingest.runtime.aliases import AliasTable


def site(text: str) -> str:
    """Return a site as it stands in canonical addresses, such as ``anna.example``. Raises ``ValueError``."""
    address = f"https://{text}/"
    if not text or not set("/?#@\\").isdisjoint(text):
        raise ValueError(f"{text!r} is not a site: give its host, such as anna.example")
    return _authority(canonical(address))


def site_of(thing_id: str, creator_id: str, thing: str, table: AliasTable) -> str:
    """The site of a thing; empty if it is not an address, or not the address of this id.

    An id is the hash of creator and address, so whoever sent the thing's first click could not choose its site.
    """
    if not is_address(thing):
        return ""
    named = (thing, table.moved(thing))
    return next((_authority(name) for name in named if things.thing_id(creator_id, name) == thing_id), "")


def _authority(address: str) -> str:
    return address.partition("://")[2].partition("/")[0]
