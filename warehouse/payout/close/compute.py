"""Stage compute: from flattrs and pledges to pools, payouts and ledger, in staging tables.

Each step is an INSERT ... SELECT inside the warehouse. After a crash the whole stage starts over and first drops
what is in the staging tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ingest.contract.month import month_before
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import Snapshot
from warehouse.storage.client import Warehouse, named

#: In this order, because each reads the ones before it.
STAGED: Final = ("pools", "payouts", "ledger")
#: What a statement that divides pools needs, with room: blocks of 75,000 wide rows, and the pledges of its members.
RANGE_MEMORY_BYTES: Final = 500_000_000


def parameters(month: int, settings: CloseSettings, snapshot: Snapshot) -> dict[str, Any]:
    """The parameters of the close's SQL."""
    return {
        **snapshot.as_dict(),
        "month": month,
        "previous_month": month_before(month),
        "currency": settings.close_currency,
        "fee_bps": settings.close_fee_bps,
        "minor_micro": settings.minor_micro,
        "minimum_micro": settings.close_minimum_minor * settings.minor_micro,
        "noclick": settings.close_noclick,
        "noclick_expiry_months": settings.close_noclick_expiry_months,
        "claim_required": int(settings.close_claim_required),
    }


def stage(  # noqa: PLR0913, PLR0917 - what all parts of the close take
    warehouse: Warehouse,
    month: int,
    settings: CloseSettings,
    snapshot: Snapshot,
    tables: Sequence[str],
    step_done: Callable[[str], None] = lambda _: None,
) -> None:
    """Fill these staging tables of a month, which must be empty and in the order of ``STAGED``."""
    values = parameters(month, settings, snapshot)
    for table in tables:
        if table == "pools":
            _stage_pools(warehouse, settings, values)
        else:
            warehouse.command(named(f"payout_{table}"), values, settings.clickhouse)
        step_done(table)


def _stage_pools(warehouse: Warehouse, settings: CloseSettings, values: Mapping[str, Any]) -> None:
    """Divide the pools of each range of members in a statement of one thread, on as many cores as the server has.

    A single thread keeps the members' order from reading to writing. Several threads of one statement do not, and then
    names are gathered in a hash table and wide rows sorted again: a third more processor time, three times the memory.
    """
    ((cores,),) = warehouse.rows("SELECT getSetting('max_threads')")
    at_once = max(1, min(int(cores), settings.close_memory_max_bytes // RANGE_MEMORY_BYTES))
    ((bounds,),) = warehouse.rows(
        named("payout_ranges"), {"month": values["month"], "ranges": at_once * settings.close_shards}
    )
    starts = ["", *filter(None, bounds)]

    def divide(range_of_members: tuple[str, str]) -> None:
        first, end = range_of_members
        try:
            # A member's flattrs and pledges are on one node of a cluster; everything else takes all members.
            warehouse.command_per_shard(
                named("payout_pools"), {**values, "from_member": first, "to_member": end}, settings.clickhouse_in_order
            )
        finally:
            warehouse.close()

    with ThreadPoolExecutor(at_once, "pools") as threads:
        for _ in threads.map(divide, zip(starts, [*starts[1:], ""], strict=True)):
            pass


def take_adjustments(warehouse: Warehouse, month: int, snapshot: Snapshot) -> None:
    """State which adjustments the steps take, for their SQL to read."""
    ids = list(snapshot.adjustments)
    if ids:
        warehouse.insert("adjustments_taken", {"month": [month] * len(ids), "id": ids})


def drop_staging(warehouse: Warehouse, month: int) -> None:
    """Empty the staging tables of a month, after ending what a holder before us may still be writing into them."""
    warehouse.command_everywhere(named("payout_end_staging"))
    for table in [f"{name}_staging" for name in STAGED] + ["adjustments_taken"]:
        warehouse.command(f"ALTER TABLE {table} DROP PARTITION {month:d}")


def publish(warehouse: Warehouse, month: int, step_done: Callable[[str], None] = lambda _: None) -> None:
    """Stage publish: one atomic REPLACE PARTITION per table.

    A crash between two leaves only some tables replaced. That is harmless: nobody reads a month without its seal, and
    a rerun replaces all three.
    """
    for table in STAGED:
        ((staged,),) = warehouse.rows(f"SELECT count() FROM {table}_staging WHERE month = {month:d}")  # noqa: S608 - our names
        if staged:
            warehouse.command(f"ALTER TABLE {table} REPLACE PARTITION {month:d} FROM {table}_staging")
        else:  # the server refuses to replace a partition with an empty one
            warehouse.command(f"ALTER TABLE {table} DROP PARTITION {month:d}")
        step_done(table)
