"""The rows of one flush, by table and month, as columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

#: Tables of each step of the flush, in the order in which they are written.
STEPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("labels", ("things", "rejected", "late", "duplicates", "undos")),
    ("flattrs", ("flattrs",)),
    ("counts", ("counts_by_creator", "counts_by_thing", "counts_by_member")),
    ("progress", ("progress",)),
)


@dataclass(slots=True)
class Rows:
    """Columns per (table, month); tables that have no month take 0."""

    blocks: dict[tuple[str, int], dict[str, list[Any]]] = field(default_factory=lambda: defaultdict(dict))
    clicks: int = 0
    #: Of these clicks, those that could not be read.
    malformed: int = 0

    def add(self, table: str, month: int, /, **columns: Sequence[Any]) -> None:
        """Append columns of equal length."""
        block = self.blocks[table, month]
        for name, values in columns.items():
            if name in block:
                block[name] += values
            else:
                block[name] = list(values)

    def of(self, table: str) -> list[dict[str, list[Any]]]:
        """The blocks of a table, one per month, oldest first."""
        return [self.blocks[key] for key in sorted(self.blocks) if key[0] == table]
