"""Which months were archived, and how they stand; without what writes their files, which is slow to import."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Note:
    """How a month stands: ``archiving``, ``leaving``, ``archived``, ``restoring`` or ``restored``; and where it is."""

    month: int
    state: str
    place: str
    manifest_sha256: str
    bytes: int
    at: datetime

    @property
    def is_away(self) -> bool:
        """Whether rows of the month may be missing from the tables."""
        return self.state in {"leaving", "archived", "restoring"}


def notes(warehouse: Warehouse) -> dict[int, Note]:
    """How the months stand that were ever archived, by month."""
    return {note.month: note for note in (Note(*row) for row in warehouse.rows(named("archives_noted")))}
