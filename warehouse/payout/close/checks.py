"""Stage check: either every micro-unit is accounted for, or ``NotConserved`` is raised and nothing is published."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ingest.contract.month import month_text
from warehouse.payout.close.compute import parameters
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import Snapshot
from warehouse.payout.errors import NotConserved
from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Totals:
    """The month's sums, each read from the table that holds it; money in micro-units."""

    pledges: int
    pledged: int
    fee: int
    charity: int
    retained: int
    members_carried_in: int
    members_carried_out: int
    pooled: int
    members: int
    members_unfunded: int
    pool_flattrs: int
    shared: int
    shared_fingerprint: int
    earned: int
    creators_carried_in: int
    held_in: int
    adjusted: int
    paid: int
    creators_carried_out: int
    held_out: int
    creators: int
    creators_paid: int
    payout_flattrs: int
    earned_fingerprint: int


def check(
    warehouse: Warehouse, month: int, settings: CloseSettings, snapshot: Snapshot
) -> tuple[Totals, dict[str, int]]:
    """Return the totals, and the ledger's movements by class of account. Raises ``NotConserved`` at the first error."""
    values = parameters(month, settings, snapshot)
    for what, query in {"pool of member": "payout_wrong_pools", "payout of creator": "payout_wrong_payouts"}.items():
        for owner, stated, found in warehouse.rows(named(query), values, settings.clickhouse):
            raise NotConserved(f"{month_text(month)}: the {what} {owner} does not add up: {stated} versus {found}")
    (row,) = warehouse.rows(named("payout_totals"), values, settings.clickhouse)
    totals = Totals(**dict(zip((field.name for field in fields(Totals)), row, strict=True)))
    _check_totals(month, totals)
    moved = _movements(warehouse, month, settings)
    _check_ledger(month, totals, moved, _adjusted_by_class(warehouse, values))
    return totals, moved


def _check_totals(month: int, totals: Totals) -> None:
    equations = {
        "pledges = charged": totals.pledges - totals.pledged,
        "charged + members' carry = fee + pools + charity + kept + carried": totals.pledged
        + totals.members_carried_in
        - (totals.fee + totals.pooled + totals.charity + totals.retained + totals.members_carried_out),
        "pools = shares": totals.pooled - totals.shared,
        "shares = earned": totals.shared - totals.earned,
        "flattrs of pools = flattrs of payouts": totals.pool_flattrs - totals.payout_flattrs,
        "shares by creator = earned by creator": totals.shared_fingerprint - totals.earned_fingerprint,
    }
    for equation, difference in equations.items():
        if difference:
            raise NotConserved(f"{month_text(month)}: {equation} is off by {difference}")


def _check_ledger(month: int, totals: Totals, moved: dict[str, int], adjustments: dict[str, int]) -> None:
    if moved.get("pool", 0):
        raise NotConserved(f"{month_text(month)}: the account `pool` ends at {moved['pool']} instead of 0")
    if sum(moved.values()):
        raise NotConserved(f"{month_text(month)}: the ledger's movements sum to {sum(moved.values())} instead of 0")
    expected = {
        "fee": totals.fee,
        "kept": totals.retained,
        "charity": totals.charity,
        "payable": totals.paid,
        "held": totals.held_out - totals.held_in,
        "members": totals.members_carried_out - totals.members_carried_in,
        "creator": totals.creators_carried_out - totals.creators_carried_in,
        "cash": -totals.pledged,
    }
    for account, amount in expected.items():
        # The creators' movement already includes their adjustments, through the payouts.
        amount += 0 if account == "creator" else adjustments.get(account, 0)  # noqa: PLW2901 - the one correction
        if moved.get(account, 0) != amount:
            raise NotConserved(
                f"{month_text(month)}: the ledger moves {moved.get(account, 0)} on `{account}`, the tables say {amount}"
            )


def _adjusted_by_class(warehouse: Warehouse, values: dict[str, Any]) -> dict[str, int]:
    return dict(warehouse.rows(named("payout_adjusted"), values))


def _movements(warehouse: Warehouse, month: int, settings: CloseSettings) -> dict[str, int]:
    """Credits less debits of the staged month, by class of account."""
    return dict(warehouse.rows(named("payout_movements"), {"month": month}, settings.clickhouse))
