"""The snapshot: which versions of the inputs a close reads, whatever is imported later."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Snapshot:
    """Versions up to which the inputs count. Adjustments count above ``adjustments_before``."""

    pledges_version: int
    creators_version: int
    adjustments_version: int
    adjustments_before: int
    #: of the quarantine, 0 if nothing was ever flagged; and the last step of its log included in that version
    quarantine_version: int = 0
    quarantine_step: int = 0

    def as_dict(self) -> dict[str, int]:
        """The versions by name, as the SQL and the proof use them."""
        return asdict(self)


def take_snapshot(warehouse: Warehouse, month: int) -> Snapshot:
    """The current versions of the inputs."""
    (row,) = warehouse.rows(named("payout_snapshot"), {"month": month})
    return Snapshot(*row)
