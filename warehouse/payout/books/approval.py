"""Two people before money leaves: approvals of a month's seal by two different keys."""

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
    """Note that the key's holder approves the seal; return the names of all who have.

    Approving twice is approving once. Raises ``PayoutRefused`` when the key is not of the role finance.
    """
    if not key.role.may(Role.FINANCE):
        raise PayoutRefused(f"The key {key.name} has the role {key.role}: approving needs the role finance.")
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
    """Who approved this seal, one name per key."""
    rows = warehouse.rows(named("payout_approvers"), {"month": proof.month, "seal": proof.seal})
    return [name for _, name in rows]


def check_approved(warehouse: Warehouse, proof: Proof) -> None:
    """Raise ``PayoutRefused`` until two different keys approved the seal that the month has now."""
    names = approvers(warehouse, proof)
    if len(names) < APPROVERS_NEEDED:
        who = " and ".join(names) or "nobody"
        raise PayoutRefused(
            f"{month_text(proof.month)} is approved by {who}: payments need {APPROVERS_NEEDED} different keys. "
            f"Approve with `flattr month approve {month_text(proof.month)}`, or export a draft."
        )
