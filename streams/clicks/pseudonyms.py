"""Erased members: their clicks count as before, but their rows carry a pseudonym.

The state still identifies such a member by the hash of the id, so it need not change when somebody is erased while a
worker runs. Only names are mapped: in rows being written, and in hashes read from rows that already have the pseudonym.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Final, NamedTuple

import msgspec
import numpy as np

from streams.clicks.string_columns import StringColumn, name_hash
from streams.errors import StreamStopped
from streams.state.hash_table import U64
from warehouse.pseudonyms import member_sha256
from warehouse.storage.client import Row, Warehouse, named
from warehouse.storage.identity_key import IdentityKey, IdentityKeyMissing, read_identity_key

_REFRESH_S: Final = 1.0
Hash = tuple[int, int]


class Listed(NamedTuple):
    """A click of an erased member: its index, the pseudonym, the first month that uses it, and the state's hash."""

    place: int
    pseudonym: str
    open_from: int
    hash: Hash


class Pseudonyms:
    """The erasure list at one moment, and the key under which names are hashed.

    Rows: keyed hash and SHA-256 of the id (both hexadecimal), pseudonym, first month that uses it. Rows from before
    keys existed have the SHA-256 alone. Their members are looked up by that, and the state identifies them by the hash
    of the pseudonym, so that clicks and rows under either name belong to one member.
    """

    def __init__(self, key: IdentityKey, rows: Sequence[Row] = ()) -> None:
        self.key = key
        self.rows = tuple(rows)
        self._names: dict[Hash, tuple[str, int]] = {}
        members: dict[Hash, Hash] = {}
        self._by_sha256: dict[str, tuple[str, int]] = {}
        self._pseudonyms = frozenset(pseudonym for _, _, pseudonym, _ in rows)
        for keyed_hash, sha256, pseudonym, open_from in rows:
            if not keyed_hash:
                self._by_sha256[sha256] = pseudonym, open_from
                continue
            halves = bytes.fromhex(keyed_hash)
            member = int.from_bytes(halves[:8], "little"), int.from_bytes(halves[8:], "little")
            self._names[member] = pseudonym, open_from
            members[self.hash(pseudonym)] = member
        self._highs = np.array(sorted(high for high, _ in self._names), np.uint64)
        self._know(members)

    def __bool__(self) -> bool:
        """Whether anybody was erased."""
        return bool(self.rows)

    def hash(self, name: str) -> Hash:
        """The hash of a member's or creator's name, as two UInt64."""
        return name_hash(name, self.key)

    def among(self, members: StringColumn, high: U64, low: U64) -> list[Listed]:
        """The clicks whose members, given by name and hash (two UInt64 columns), are on the list."""
        return [*self._among_keyed(high, low), *self._among_older(members, high)]

    def _among_keyed(self, high: U64, low: U64) -> list[Listed]:
        if not self._names:
            return []
        likely = np.flatnonzero(_in_sorted(high, self._highs)).tolist()
        hashes = ((index, (int(high[index]), int(low[index]))) for index in likely)
        return [Listed(index, *self._names[member], member) for index, member in hashes if member in self._names]

    def _among_older(self, members: StringColumn, high: U64) -> list[Listed]:
        if not self._by_sha256:
            return []
        _, firsts, places = np.unique(high, return_index=True, return_inverse=True)
        listed = []
        for place, first in enumerate(firsts.tolist()):
            known = self._by_sha256.get(member_sha256(members[first]))
            if known is not None:
                as_pseudonym = self.hash(known[0])
                listed += [Listed(index, *known, as_pseudonym) for index in np.flatnonzero(places == place).tolist()]
        return listed

    def name(self, member_id: str, month: int | None = None) -> str:
        """The member's name in rows of that month, or the current name if no month is given."""
        known = self._entry(member_id)
        if known is None:
            return member_id
        pseudonym, open_from = known
        return pseudonym if month is None or month >= open_from else member_id

    def _entry(self, member_id: str) -> tuple[str, int] | None:
        if not self.rows or not member_id:
            return None
        found = self._names.get(self.hash(member_id))
        return found or (self._by_sha256.get(member_sha256(member_id)) if self._by_sha256 else None)

    def state_hash(self, member_id: str) -> Hash:
        """The hash by which the state identifies the member that has this name in rows."""
        hashed = self.hash(member_id)
        return self._members.get(hashed, hashed)

    def to_state(self, grid: U64) -> U64:
        """Map pseudonyms' hashes to the state's, in rows (shape (n, words)) that begin with a member's hash."""
        if not self._members:
            return grid
        likely = np.flatnonzero(_in_sorted(grid[:, 0], self._pseudonym_highs)).tolist()
        if likely:
            grid = grid.copy()
        for index in likely:
            known = int(grid[index, 0]), int(grid[index, 1])
            grid[index, :2] = self._members.get(known, known)
        return grid

    def older_before(self, month: int) -> list[str]:
        """Of rows without a keyed hash that leave this month as it was closed: SHA-256 of the id, hexadecimal."""
        return [sha256 for sha256, (_, open_from) in self._by_sha256.items() if month < open_from]

    def with_ids(self, member_ids: Iterable[str]) -> Pseudonyms:
        """The same, with ids of members known by SHA-256 alone: rows under the id are the pseudonym's in the state."""
        pairs = ((member_id, self._by_sha256.get(member_sha256(member_id))) for member_id in member_ids)
        found = {self.hash(member_id): self.hash(known[0]) for member_id, known in pairs if known}
        if not found:
            return self
        more = copy(self)
        more._know(self._members | found)  # noqa: SLF001 - of its own kind
        return more

    def _know(self, members: dict[Hash, Hash]) -> None:
        """By which hash the state knows a member whose rows bear the name of another."""
        self._members = members
        self._pseudonym_highs = np.array(sorted(high for high, _ in members), np.uint64)

    def scrubbed(self, raw: bytes) -> bytes:
        """Refused bytes; if they are an erased member's click, only its id."""
        if not self.rows:
            return raw
        try:
            click = _mention.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return raw
        # A click that is already renamed may still name the member as its creator.
        if click.member_id not in self._pseudonyms and self._entry(click.member_id) is None:
            return raw
        return msgspec.json.encode({"click_id": click.click_id})


class _Mention(msgspec.Struct, frozen=True):
    member_id: str = ""
    click_id: str = ""


_mention = msgspec.json.Decoder(_Mention)
#: An empty list with a random key: for a state that is not read from a warehouse.
NOBODY: Final = Pseudonyms(IdentityKey.random())


class ErasureList:
    """The erasure list and the key from the warehouse, cached for a second.

    Blocks. Raises ``WarehouseError``, and ``StreamStopped`` when the warehouse has no key or another one than before,
    since hashes in this process would then match nothing.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._lock = threading.Lock()
        self._known = NOBODY
        self._read_at = float("-inf")

    def current(self) -> Pseudonyms:
        """The list, at most a second old."""
        with self._lock:
            if time.monotonic() - self._read_at > _REFRESH_S:
                self._read()
            return self._known

    def newest(self) -> Pseudonyms:
        """The list, read now."""
        with self._lock:
            self._read()
            return self._known

    def _read(self) -> None:
        began = time.monotonic()
        try:
            key = read_identity_key(self._warehouse)
        except IdentityKeyMissing as error:
            raise StreamStopped(str(error)) from error
        rows = self._warehouse.rows(named("erasures"))
        if self._known is NOBODY:
            self._known = Pseudonyms(key)
        if key != self._known.key:
            raise StreamStopped(
                "the identity key in the warehouse has changed since this worker started: find out who replaced the "
                "table identity_key, then restart the worker"
            )
        if tuple(rows) != self._known.rows:
            self._known = Pseudonyms(key, rows)
        self._read_at = began


def _in_sorted(values: U64, known: U64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.equal(known[at], values)
