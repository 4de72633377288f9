"""Members who were erased: their clicks count as before, and their rows bear a pseudonym.

The state goes on knowing such a member by the hash of the id, so it need not change when
somebody is erased while a worker runs. Only names change: of rows on their way out, and of
hashes on their way in, where rows of the warehouse bear the pseudonym already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from streams.names import name_hash
from streams.table import U64
from warehouse.client import Row, Warehouse, named

_REFRESH_S: Final = 1.0
Hash = tuple[int, int]


class Erased:
    """The list at one moment. Rows: murmurHash3_128 of the id (hexadecimal), pseudonym, first month that bears it."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.rows = tuple(rows)
        self._names: dict[Hash, tuple[str, int]] = {}
        self._members: dict[Hash, Hash] = {}
        for member_hash, pseudonym, open_from in rows:
            halves = bytes.fromhex(member_hash)
            member = int.from_bytes(halves[:8], "little"), int.from_bytes(halves[8:], "little")
            self._names[member] = pseudonym, open_from
            self._members[name_hash(pseudonym)] = member
        self._highs = np.array(sorted(high for high, _ in self._names), np.uint64)
        self._pseudonym_highs = np.array(sorted(high for high, _ in self._members), np.uint64)

    def __bool__(self) -> bool:
        """Whether anybody was."""
        return bool(self._names)

    def among(self, high: U64, low: U64) -> list[tuple[int, str, int]]:
        """Which of the members' hashes are on the list: index, pseudonym, first month that bears it."""
        if not self._names:
            return []
        likely = np.flatnonzero(_in_sorted(high, self._highs)).tolist()
        found = ((index, self._names.get((int(high[index]), int(low[index])))) for index in likely)
        return [(index, *known) for index, known in found if known is not None]

    def name(self, member_id: str, month: int | None = None) -> str:
        """What the member is called in rows of that month; of any month, where none is given."""
        if not self._names or not member_id:
            return member_id
        pseudonym, open_from = self._names.get(name_hash(member_id), (member_id, 0))
        return pseudonym if month is None or month >= open_from else member_id

    def state_hash(self, member_id: str) -> Hash:
        """By which hash the state knows a member whose rows bear this name."""
        own = name_hash(member_id)
        return self._members.get(own, own)

    def to_state(self, grid: U64) -> U64:
        """Packed rows, whose first two words are a member's hash, with pseudonyms' hashes turned into the state's."""
        if not self._members:
            return grid
        likely = np.flatnonzero(_in_sorted(grid[:, 0], self._pseudonym_highs)).tolist()
        if likely:
            grid = grid.copy()
        for index in likely:
            known = int(grid[index, 0]), int(grid[index, 1])
            grid[index, :2] = self._members.get(known, known)
        return grid

    def scrubbed(self, raw: bytes) -> bytes:
        """Refused bytes without what they say of an erased member: of such a click only its id is kept."""
        if not self._names:
            return raw
        try:
            click = _mention.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return raw
        # Renamed already, it may still name the member as its creator.
        if not click.member_id or name_hash(click.member_id) not in self._names.keys() | self._members.keys():
            return raw
        return msgspec.json.encode({"click_id": click.click_id})


class _Mention(msgspec.Struct, frozen=True):
    member_id: str = ""
    click_id: str = ""


_mention = msgspec.json.Decoder(_Mention)
NOBODY: Final = Erased()


class ErasureList:
    """The list as the warehouse has it, read again once it is a second old. Blocks; raises ``WarehouseError``."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._lock = threading.Lock()
        self._known = NOBODY
        self._read_at = float("-inf")

    def current(self) -> Erased:
        """The list, at most a second old."""
        with self._lock:
            if time.monotonic() - self._read_at > _REFRESH_S:
                self._read()
            return self._known

    def newest(self) -> Erased:
        """The list as it is now."""
        with self._lock:
            self._read()
            return self._known

    def _read(self) -> None:
        began = time.monotonic()
        rows = self._warehouse.rows(named("erasures"))
        if tuple(rows) != self._known.rows:
            self._known = Erased(rows)
        self._read_at = began


def _in_sorted(values: U64, known: U64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.equal(known[at], values)
