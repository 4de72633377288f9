"""Which months are archived: their flattrs and counts are in files, and not in the tables (docs/archive.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.contract.month import month_text

if TYPE_CHECKING:
    from warehouse.storage.client import Warehouse


class MonthArchived(Exception):
    """What was asked for left the tables with its month; the message says how it comes back."""

    def __init__(self, month: int) -> None:
        text = month_text(month)
        super().__init__(f"{text} is archived: restore it first, with `flattr archive restore {text}`.")


def archived_months(warehouse: Warehouse) -> frozenset[int]:
    """The months that left, or are about to leave or to come back."""
    return frozenset(int(month) for (month,) in warehouse.rows("SELECT month FROM archived_months"))


def refuse_archived(warehouse: Warehouse, *months: int) -> None:
    """Raise ``MonthArchived`` if one of these months is archived."""
    for month in sorted(archived_months(warehouse).intersection(months)):
        raise MonthArchived(month)
