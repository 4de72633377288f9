"""The proof of a month: where every micro-unit and every click went, and the hashes that bind it.

The proof is a canonical JSON text and the seal is its SHA-256. It contains the previous seal, so that the months form
a chain, and no time of day, so that the same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from warehouse import __version__
from warehouse.payout.close.checks import Totals
from warehouse.payout.close.compute import parameters
from warehouse.payout.close.gate import Tallies
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import Snapshot
from warehouse.payout.close.stages import code_sha256
from warehouse.storage.client import Warehouse, named

FORMAT = 1


@dataclass(frozen=True)
class Proof:
    """A month's account, in micro-units of ``currency``. Its terms are movements of this month.

    - ``pledged_micro``: the paid pledges, what members were charged.
    - ``fee_micro``: the fees, including ``kept_micro``, the pools retained under the rule ``keep``.
    - ``paid_micro``: what became payable to creators, whatever month it was earned in.
    - ``held_micro``: the change in money held, by holds or for unclaimed creators; negative if it fell.
    - ``carried_micro``: the change in what is carried for creators and members; negative if it fell.
    - ``charity_micro``: what went to the charity.
    - ``charged_back_micro``: what members took back of earlier months' pledges; the fee account pays for it.

    So ``pledged = paid + fee + held + carried + charity + charged back`` holds exactly, in every month by itself. The
    balances after the month are ``carried_balance_micro`` and ``held_balance_micro``. ``flattrs`` were paid for;
    ``quarantined`` are active too, and were left out.
    ``adjustments`` are the ids of the corrections, returns and charge-backs that are among this month's entries.
    """

    format: int
    month: int
    currency: str
    pledged_micro: int
    fee_micro: int
    kept_micro: int
    paid_micro: int
    held_micro: int
    carried_micro: int
    charity_micro: int
    carried_balance_micro: int
    held_balance_micro: int
    adjusted_micro: int
    members: int
    members_unfunded: int
    creators: int
    creators_paid: int
    flattrs: int
    accepted: int
    counted: int
    duplicate: int
    undo: int
    rejected: int
    late: int
    rules: dict[str, str | int | bool]
    snapshot: dict[str, int]
    version: str
    code_sha256: str
    digests: dict[str, str]
    previous: str
    seal: str = ""
    quarantined: int = 0
    adjustments: list[str] = field(default_factory=list)
    charged_back_micro: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the terms sum to what was charged, and the labels to what was accepted."""
        clicks = self.counted + self.duplicate + self.undo + self.rejected + self.late
        return self.pledged_micro == sum(self.terms.values()) and self.accepted == clicks

    @property
    def terms(self) -> dict[str, int]:
        """Where the money went, in micro-units by name; they sum to ``pledged_micro``."""
        found = {
            "paid": self.paid_micro,
            "fee": self.fee_micro,
            "held": self.held_micro,
            "carried": self.carried_micro,
            "charity": self.charity_micro,
        }
        return {**found, "charged back": self.charged_back_micro} if self.charged_back_micro else found

    def text(self) -> str:
        """The canonical JSON whose hash is the seal: everything except the seal."""
        content = asdict(self)
        del content["seal"]
        for name in ("quarantined", "adjustments", "charged_back_micro"):
            # Proofs sealed before these existed must give the same bytes.
            if not content[name]:
                del content[name]
        return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"

    def sealed(self) -> Self:
        """A copy with its seal."""
        return replace(self, seal=hashlib.sha256(self.text().encode()).hexdigest())

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse a proof and compute its seal. Raises ``ValueError`` if the text is not a proof."""
        content: dict[str, Any] = json.loads(text)
        try:
            return cls(**content).sealed()
        except TypeError as error:
            raise ValueError(f"not a proof of format {FORMAT}: {error}") from None


def table_digests(warehouse: Warehouse, month: int, settings: CloseSettings, snapshot: Snapshot) -> dict[str, str]:
    """The digest of each input and of each staged table."""
    values = parameters(month, settings, snapshot)
    return dict(warehouse.rows(named("payout_digests"), values, settings.clickhouse))


def build(  # noqa: PLR0913 - the eight things that a proof is made of
    warehouse: Warehouse,
    month: int,
    settings: CloseSettings,
    snapshot: Snapshot,
    *,
    totals: Totals,
    tallies: Tallies,
    moved: dict[str, int],
    digests: dict[str, str],
) -> Proof:
    """Build the proof of the staged month, chained to the newest seal before it."""
    return Proof(
        format=FORMAT,
        month=month,
        currency=settings.close_currency,
        pledged_micro=totals.pledged,
        fee_micro=moved.get("fee", 0) + moved.get("kept", 0),
        kept_micro=moved.get("kept", 0),
        paid_micro=moved.get("payable", 0),
        held_micro=moved.get("held", 0),
        carried_micro=moved.get("creator", 0) + moved.get("members", 0),
        charity_micro=moved.get("charity", 0),
        carried_balance_micro=totals.creators_carried_out + totals.members_carried_out,
        held_balance_micro=totals.held_out,
        adjusted_micro=totals.adjusted,
        members=totals.members,
        members_unfunded=totals.members_unfunded,
        creators=totals.creators,
        creators_paid=totals.creators_paid,
        flattrs=totals.pool_flattrs,
        accepted=tallies.accepted,
        counted=tallies.counted,
        duplicate=tallies.duplicate,
        undo=tallies.undo,
        rejected=tallies.rejected,
        late=tallies.late,
        rules=settings.rules,
        snapshot=snapshot.as_dict(),
        version=__version__,
        code_sha256=code_sha256(),
        digests=digests,
        previous=previous_seal(warehouse, month),
        quarantined=left_out(warehouse, month, snapshot, settings),
        adjustments=list(snapshot.adjustments),
        charged_back_micro=moved.get("cash", 0) + totals.pledged,
    ).sealed()


def left_out(warehouse: Warehouse, month: int, snapshot: Snapshot, settings: CloseSettings) -> int:
    """The number of active flattrs that are not paid for, as of the snapshot; 0 if nothing was ever flagged."""
    if not snapshot.quarantine_version:
        return 0
    values = {"month": month, **snapshot.as_dict()}
    ((standing,),) = warehouse.rows(named("payout_quarantined"), values, settings.clickhouse)
    return int(standing)


def previous_seal(warehouse: Warehouse, month: int) -> str:
    """The seal of the newest closed month before this one; empty before the first."""
    rows = warehouse.rows(named("payout_previous_seal"), {"month": month})
    return str(rows[0][0]) if rows else ""


def stored(warehouse: Warehouse, month: int) -> Proof | None:
    """The proof of a month, or None while it is open."""
    rows = warehouse.rows(named("payout_proof"), {"month": month})
    return Proof.read(rows[0][0]) if rows else None


def stored_until(warehouse: Warehouse, month: int) -> list[Proof]:
    """The proofs of the closed months up to and including ``month``, oldest first."""
    return [Proof.read(text) for (text,) in warehouse.rows(named("payout_proofs"), {"month": month})]
