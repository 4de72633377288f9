"""Stage compute: from flattrs and pledges to pools, payouts and ledger, in staging tables.

Each step is an INSERT ... SELECT inside the warehouse. After a crash the whole stage starts over and first drops
what is in the staging tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ingest.contract.month import month_before
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import Snapshot
from warehouse.storage.client import Warehouse, named

#: In this order, because each reads the ones before it.
STAGED: Final = ("pools", "payouts", "ledger")


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
    shards = settings.close_shards
    for table in tables:
        for shard in range(shards if table == "pools" else 1):
            values_of_shard = {**values, "shards": shards, "shard": shard}
            # A member's flattrs and pledges are on one node of a cluster; everything else takes all members.
            run = warehouse.command_per_shard if table == "pools" else warehouse.command
            run(named(f"payout_{table}"), values_of_shard, settings.clickhouse)
        step_done(table)


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
