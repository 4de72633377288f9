"""The recount: the close's own count of the flattrs against what the stream stated, before anything is paid."""

from __future__ import annotations

from ingest.click import month_text
from warehouse.client import Warehouse, named
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.gate import Tallies
from warehouse.payout.settings import CloseSettings
from warehouse.payout.snapshot import Snapshot

_REMEDY = "find the difference with `flattr replay` before money is divided."


def check_recount(
    warehouse: Warehouse, month: int, settings: CloseSettings, snapshot: Snapshot, tallies: Tallies
) -> None:
    """Raise ``PayoutRefused`` unless staged pools and quarantine hold exactly the flattrs that the stream counted.

    Compared are the counted clicks with the tallies, the sums of all three count tables, and every
    (member, creator) line of ``counts_by_member`` by a fingerprint; a line that differs is named.
    """
    values = {"month": month, "quarantine_version": snapshot.quarantine_version}
    (row,) = warehouse.rows(named("payout_recount"), values, settings.clickhouse)
    counted, active, *stated, lines_equal = row
    if counted != tallies.counted:
        raise PayoutRefused(
            f"{month_text(month)} has {counted} counted flattrs and the stream tallied {tallies.counted}: {_REMEDY}"
        )
    for name, flattrs in zip(("by_member", "by_creator", "by_thing"), stated, strict=True):
        if flattrs != active:
            raise PayoutRefused(
                f"{month_text(month)} has {active} flattrs, and the stream's counts {name} say {flattrs}: {_REMEDY}"
            )
    if not lines_equal:
        raise PayoutRefused(_first_difference(warehouse, month, values, settings))


def _first_difference(warehouse: Warehouse, month: int, values: dict[str, int], settings: CloseSettings) -> str:
    lines = warehouse.rows(named("payout_recount_lines"), values, settings.clickhouse)
    member, creator, recounted, stated = lines[0]
    return (
        f"Member {member} has {recounted} flattrs of creator {creator} in {month_text(month)}, and the stream "
        f"stated {stated}: {_REMEDY}"
    )
