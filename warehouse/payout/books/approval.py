"""Approvals: before money leaves, two different keys must approve a month's seal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ingest.contract.month import month_text
from warehouse.keys import Key, Role
from warehouse.payout.close.proof import Proof
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse, named

APPROVERS_NEEDED: Final = 2


def approve(warehouse: Warehouse, proof: Proof, key: Key) -> list[str]:
    """Record that the key's holder approves the seal; return the names of all approvers.

    Idempotent. Raises ``PayoutRefused`` unless the key has the role finance.
    """
    if not key.role.may(Role.FINANCE):
        raise PayoutRefused(f"The key {key.name} has the role {key.role}; approving needs the role finance.")
    warehouse.insert(
        "approvals",
        {
            "month": [proof.month],
            "seal": [proof.seal],
            "key_sha256": [key.sha256],
            "key_name": [key.name],
            "approved_at": [datetime.now(UTC)],
        },
    )
    return approvers(warehouse, proof)


def approvers(warehouse: Warehouse, proof: Proof) -> list[str]:
    """The names of the keys that approved this seal."""
    rows = warehouse.rows(named("payout_approvers"), {"month": proof.month, "seal": proof.seal})
    return [name for _, name in rows]


def check_approved(warehouse: Warehouse, proof: Proof) -> None:
    """Raise ``PayoutRefused`` until two different keys have approved the month's current seal."""
    names = approvers(warehouse, proof)
    if len(names) < APPROVERS_NEEDED:
        who = " and ".join(names) or "nobody"
        raise PayoutRefused(
            f"{month_text(proof.month)} is approved by {who}, but payments need {APPROVERS_NEEDED} different keys. "
            f"Approve with `flattr month approve {month_text(proof.month)}`, or export a draft."
        )
