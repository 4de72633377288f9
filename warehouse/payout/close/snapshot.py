"""The snapshot: which versions of the inputs a close reads. What arrives later does not move it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Snapshot:
    """Versions up to which the inputs count; adjustments from above ``adjustments_before`` on."""

    pledges_version: int
    creators_version: int
    adjustments_version: int
    adjustments_before: int
    #: which flattrs are left out, 0 while none ever was; and the last step of the quarantine's log in it
    quarantine_version: int = 0
    quarantine_step: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name, as the statements and the proof have it."""
        return asdict(self)


def take_snapshot(warehouse: Warehouse, month: int) -> Snapshot:
    """The inputs as they stand now."""
    (row,) = warehouse.rows(named("payout_snapshot"), {"month": month})
    return Snapshot(*row)
