"""The snapshot: which versions of the inputs a close reads, whatever is imported later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warehouse.storage.client import Warehouse, named

_VERSIONS: Final = ("pledges_version", "creators_version", "quarantine_version", "quarantine_step")


@dataclass(frozen=True)
class Snapshot:
    """Versions up to which the inputs count, and the adjustments that this close takes, by id."""

    pledges_version: int
    creators_version: int
    #: of the quarantine, 0 if nothing was ever flagged; and the last step of its log included in that version
    quarantine_version: int = 0
    quarantine_step: int = 0
    adjustments: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, int]:
        """The versions by name, as the SQL and the proof use them."""
        return {name: getattr(self, name) for name in _VERSIONS}


def take_snapshot(warehouse: Warehouse, month: int) -> Snapshot:
    """The current versions of the inputs, and every adjustment that waits."""
    (versions,) = warehouse.rows(named("payout_snapshot"), {"month": month})
    waiting = tuple(name for (name,) in warehouse.rows(named("payout_waiting"), {"month": month}))
    pledges, creators, quarantined, step = versions
    return Snapshot(pledges, creators, quarantined, step, waiting)


def sealed_snapshot(warehouse: Warehouse, versions: Mapping[str, int], adjustments: list[str]) -> Snapshot:
    """The snapshot of a sealed month, from its proof's versions and adjustments."""
    return Snapshot(
        pledges_version=versions["pledges_version"],
        creators_version=versions["creators_version"],
        quarantine_version=versions.get("quarantine_version", 0),
        quarantine_step=versions.get("quarantine_step", 0),
        adjustments=tuple(taken(warehouse, versions, adjustments)),
    )


def taken(warehouse: Warehouse, versions: Mapping[str, int], adjustments: list[str]) -> list[str]:
    """The adjustments that a sealed month took. Until 0.2 a proof named their versions instead of their ids."""
    if "adjustments_version" not in versions:
        return adjustments
    rows = warehouse.rows(
        "SELECT id FROM adjustments WHERE version > %(adjustments_before)s AND version <= %(adjustments_version)s",
        versions,
    )
    return [name for (name,) in rows]
