"""The rows of one flush, as columns by table and month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from warehouse.storage.native_columns import Column, Packed

#: The steps of a flush and their tables, in the order in which they are written.
STEPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("labels", ("retimed", "things", "subscription_orders", "rejected", "late", "duplicates", "undos")),
    ("flattrs", ("flattrs",)),
    ("counts", ("counts_by_creator", "counts_by_thing", "counts_by_member")),
    ("progress", ("progress",)),
)


Array = npt.NDArray[Any]
#: ClickHouse's type for each numpy dtype.
_KINDS: Final = {
    np.dtype("u1"): "UInt8",
    np.dtype("<u2"): "UInt16",
    np.dtype("<u4"): "UInt32",
    np.dtype("<u8"): "UInt64",
    np.dtype("<M8[ms]"): "DateTime64(3, 'UTC')",
    np.dtype("V16"): "FixedString(16)",
}


@dataclass(slots=True)
class Rows:
    """Columns per (table, month), as lists of pieces; tables without a month use 0."""

    blocks: dict[tuple[str, int], dict[str, list[Any]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    clicks: int = 0
    #: How many of these clicks were malformed.
    malformed: int = 0
    #: How many stand in another partition than their member's.
    misplaced: int = 0

    def add(self, table: str, month: int, /, **columns: Sequence[Any] | Array | Packed) -> None:
        """Append columns of equal length. A table's columns must be always lists, or always arrays and ``Packed``."""
        block = self.blocks[table, month]
        for name, values in columns.items():
            block[name].append(values)

    def of(self, table: str) -> list[dict[str, Column]]:
        """A table's blocks for insertion, one per month, oldest first."""
        return [self.block(*key) for key in sorted(self.blocks) if key[0] == table]

    def block(self, table: str, month: int) -> dict[str, Column]:
        """A table's rows of one month."""
        return {name: _joined(pieces) for name, pieces in self.blocks[table, month].items()}


def _joined(pieces: list[Any]) -> Column:
    if isinstance(pieces[0], Packed):
        return Packed(pieces[0].kind, sum(map(len, pieces)), b"".join(piece.data for piece in pieces))
    if isinstance(pieces[0], np.ndarray):
        array = np.concatenate(pieces)
        return Packed(_KINDS[array.dtype], len(array), array.tobytes())
    return list(chain.from_iterable(pieces))
