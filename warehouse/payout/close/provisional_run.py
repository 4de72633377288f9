"""Provisional runs: the stored result of a dry run, compared later with the final month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.contract.month import month_text
from warehouse.payout.close.proof import Proof
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse, named

#: The terms of the proof's equation, and the counts that explain a change in them.
_EXPLAINING = (
    "pledged_micro", "fee_micro", "paid_micro", "held_micro", "carried_micro", "charity_micro",
    "members", "members_unfunded", "creators", "flattrs", "counted", "duplicate", "undo", "rejected", "late",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One creator's earned and paid amounts in micro-units, provisional (before) and final."""

    creator_id: str
    earned_before_micro: int
    earned_micro: int
    paid_before_micro: int
    paid_micro: int


@dataclass(frozen=True)
class Comparison:
    """A provisional run compared with the final month: changed totals and rules as (before, after), changed lines."""

    totals: dict[str, tuple[int, int]]
    rules: dict[str, tuple[object, object]]
    lines: list[Difference]


def keep_run(warehouse: Warehouse, proof: Proof) -> int:
    """Store the staged payouts as the month's next provisional run and return its number; the run's own row is last."""
    ((run,),) = warehouse.rows(named("payout_next_run"), {"month": proof.month})
    warehouse.command(named("payout_keep_run"), {"month": proof.month, "run": run})
    warehouse.insert(
        "provisional_runs",
        {"month": [proof.month], "run": [run], "proof": [proof.text()], "made_at": [datetime.now(UTC)]},
    )
    return int(run)


def compare_run(warehouse: Warehouse, final: Proof, run: int | None = None) -> Comparison:
    """Compare a provisional run (by default the newest) with the final month. Raises ``PayoutRefused`` without one."""
    rows = warehouse.rows(named("payout_run"), {"month": final.month, "run": run or 0})
    if not rows:
        raise PayoutRefused(
            f"{month_text(final.month)} has no provisional run to compare: `flattr month close --dry-run --keep` "
            "stores one while the month is open."
        )
    number, text = rows[0]
    before = Proof.read(text)
    totals = {name: (getattr(before, name), getattr(final, name)) for name in _EXPLAINING}
    rules = {name: (before.rules.get(name), rule) for name, rule in final.rules.items()}
    lines = warehouse.rows(named("payout_run_lines"), {"month": final.month, "run": number})
    return Comparison(
        totals={name: pair for name, pair in totals.items() if pair[0] != pair[1]},
        rules={name: pair for name, pair in rules.items() if pair[0] != pair[1]},
        lines=[Difference(*line) for line in lines],
    )
