"""The stages of a close, and the log of which are done."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Final

from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import Snapshot
from warehouse.storage.client import Warehouse, named


class Stage(StrEnum):
    """The stages in order. Each is idempotent; docs/design/payout.md says what a crash in each costs.

    The gate leaves nothing behind and runs again in every run. It is logged together with ``compute``, because the
    recount there completes it.
    """

    GATE = "gate"
    COMPUTE = "compute"
    CHECK = "check"
    PUBLISH = "publish"
    SEAL = "seal"


#: The code that computes, relative to warehouse/payout: the modules that close.py reaches and the SQL they run.
CODE: Final = (
    "close/checks.py",
    "close/close.py",
    "close/compute.py",
    "close/gate.py",
    "close/lock.py",
    "close/log_ends.py",
    "close/months.py",
    "close/outliers.py",
    "close/proof.py",
    "close/provisional_run.py",
    "close/quarantine_set.py",
    "close/recount.py",
    "close/settings.py",
    "close/snapshot.py",
    "close/stages.py",
    "bank.py",
    "errors.py",
    "money.py",
    "sql/lock_hold.sql",
    "sql/lock_living.sql",
    "sql/payout_adjusted.sql",
    "sql/payout_currencies.sql",
    "sql/payout_digests.sql",
    "sql/payout_end_staging.sql",
    "sql/payout_keep_run.sql",
    "sql/payout_ledger.sql",
    "sql/payout_months.sql",
    "sql/payout_movements.sql",
    "sql/payout_next_run.sql",
    "sql/payout_outliers.sql",
    "sql/payout_outliers_noted.sql",
    "sql/payout_payouts.sql",
    "sql/payout_pledged.sql",
    "sql/payout_pools.sql",
    "sql/payout_previous_seal.sql",
    "sql/payout_progress.sql",
    "sql/payout_proof.sql",
    "sql/payout_proofs.sql",
    "sql/payout_quarantine_set.sql",
    "sql/payout_quarantined.sql",
    "sql/payout_ranges.sql",
    "sql/payout_recount.sql",
    "sql/payout_recount_flattrs.sql",
    "sql/payout_restated.sql",
    "sql/payout_run.sql",
    "sql/payout_run_lines.sql",
    "sql/payout_snapshot.sql",
    "sql/payout_stages_done.sql",
    "sql/payout_started.sql",
    "sql/payout_tallies.sql",
    "sql/payout_totals.sql",
    "sql/payout_waiting.sql",
    "sql/payout_wrong_payouts.sql",
    "sql/payout_wrong_pools.sql",
    "sql/quarantine_state.sql",
    "sql/quarantine_versions.sql",
)


@cache
def code_sha256() -> str:
    """SHA-256, in hexadecimal, of the names and contents of ``CODE`` as installed."""
    digest = hashlib.sha256()
    root = resources.files("warehouse.payout")
    for name in CODE:
        digest.update(f"{name}\0".encode() + root.joinpath(name).read_bytes() + b"\0")
    return digest.hexdigest()


def run_name(month: int, settings: CloseSettings, snapshot: Snapshot) -> str:
    """A run's name. The same month, inputs, rules and code give the same name, so a run can be resumed."""
    text = f"{month}|{snapshot}|{settings.rules_sha256}|{code_sha256()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def log_stage(warehouse: Warehouse, month: int, run: str, stage: Stage) -> None:
    """Log that a stage is done."""
    warehouse.insert(
        "close_log",
        {"month": [month], "run": [run], "stage": [stage.value], "done_at": [datetime.now(UTC)]},
    )


def stages_done(warehouse: Warehouse, month: int, run: str) -> set[Stage]:
    """The stages that this run has finished."""
    rows = warehouse.rows(named("payout_stages_done"), {"month": month, "run": run})
    return {Stage(stage) for (stage,) in rows}


def forget_stages(warehouse: Warehouse, month: int) -> None:
    """Log that the staging tables belong to no run, so that the next run starts over. No-op if no stage was logged."""
    if warehouse.rows(named("payout_started"), {"month": month}) != [(0,)]:
        log_stage(warehouse, month, "", Stage.GATE)
