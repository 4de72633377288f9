"""The installation's identity key: who a member or creator is, to a worker's state, is SipHash under this key.

Whoever knew the key could make up a creator whose hash is another's. So it stands in a table of its own, which
streams, erasure and the migrator may read and nobody else; statements ask for it there, and no text of a
statement, log or message holds it. It is made by the first migration that knows it and never changes afterwards:
the list of erasures holds hashes made with it, of ids that are gone, and `retimed` keys of clicks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError, WarehouseRefused

_UNKNOWN_TABLE: Final = 60
#: The first insert under a token is kept and every later one dropped, by the server, under the table's own lock.
_ONCE: Final = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "insert_deduplication_token": "the identity key",
}


class IdentityKeyMissing(WarehouseError):
    """The warehouse has no key, or more than one: no name can be hashed."""


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """Two words of 64 bits. They do not show in logs and messages."""

    k0: int = field(repr=False)
    k1: int = field(repr=False)

    @classmethod
    def random(cls) -> IdentityKey:
        """A key that nobody else has."""
        return cls(*(int.from_bytes(os.urandom(8), "little") for _ in range(2)))


def make_identity_key(warehouse: Warehouse) -> None:
    """Put a random key into the warehouse unless it has one; of several that do so at once, one wins for all."""
    key = IdentityKey.random()
    warehouse.insert("identity_key", {"k0": [key.k0], "k1": [key.k1]}, settings=_ONCE)


def read_identity_key(warehouse: Warehouse) -> IdentityKey:
    """The warehouse's key. Raises ``IdentityKeyMissing``, and ``WarehouseError`` as every query does."""
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
