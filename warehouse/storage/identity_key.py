"""The installation's identity key: a worker's state knows members and creators by SipHash-128 under this key.

Anyone who knew the key could construct a creator id that collides with another's. So the key lives in a table of its
own, readable only by streams, erasure and the migrator; queries read it from there, and it never appears in a
query's text, a log or a message. A migration creates it once, and it never changes: the list of erasures holds
hashes made with it, of ids that no longer exist, and `retimed` holds keys of clicks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError, WarehouseRefused

_UNKNOWN_TABLE: Final = 60
#: The server keeps the first insert with a deduplication token and drops the rest, under the table's own lock.
_ONCE: Final = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "insert_deduplication_token": "the identity key",
}


class IdentityKeyMissing(WarehouseError):
    """The warehouse has no key, or more than one, so no name can be hashed."""


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """128 bits as two 64-bit words, left out of ``repr`` so that they never reach a log or message."""

    k0: int = field(repr=False)
    k1: int = field(repr=False)

    @classmethod
    def random(cls) -> IdentityKey:
        """Make a key from the operating system's random source."""
        return cls(*(int.from_bytes(os.urandom(8), "little") for _ in range(2)))


def make_identity_key(warehouse: Warehouse) -> None:
    """Store a random key unless there is one. Safe to run concurrently: exactly one key wins."""
    key = IdentityKey.random()
    warehouse.insert("identity_key", {"k0": [key.k0], "k1": [key.k1]}, settings=_ONCE)


def read_identity_key(warehouse: Warehouse) -> IdentityKey:
    """Read the key. Raises ``IdentityKeyMissing``, or ``WarehouseError`` like any query."""
    try:
        found = warehouse.rows("SELECT k0, k1 FROM identity_key")
    except WarehouseRefused as error:
        if error.code != _UNKNOWN_TABLE:
            raise
        found = []
    if len(found) > 1:
        raise IdentityKeyMissing(
            f"The warehouse has {len(found)} identity keys instead of one: "
            "restore the table identity_key from a backup."
        )
    if not found:
        raise IdentityKeyMissing(
            "The warehouse has no identity key: run `flattr warehouse migrate`. "
            "If it had one before, restore the table identity_key from a backup instead."
        )
    return IdentityKey(*found[0])
