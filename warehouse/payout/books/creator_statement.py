"""A creator's month, down to days and things, without a member's name: it can be handed out.

Every figure re-derives. A supporter's share is pool times flattrs for the creator over all of the supporter's flattrs,
rounded down, plus one micro-unit if its remainder was among the largest; the shares sum to what was earned, and so do
the lines by day and thing. Supporters are numbered in an order that says nothing of who they are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ingest.contract.month import month_text
from warehouse.counts.counts import shown
from warehouse.payout.close.proof import Proof
from warehouse.payout.closed_months import Payout
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.archived import refuse_archived
from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class SupporterLine:
    """What the creator got of one member's pool; ``remainder`` is a numerator over ``member_flattrs``."""

    supporter: int
    flattrs: int
    member_flattrs: int
    pool_micro: int
    rounded_down_micro: int
    remainder: int
    share_micro: int


@dataclass(frozen=True)
class ThingLine:
    """What one thing earned on the flattrs of one day (UTC)."""

    day: str
    thing: str
    flattrs: int
    earned_micro: int


@dataclass(frozen=True)
class Note:
    """A correction, a returned payment or a charge-back among the month's entries; negative takes away."""

    kind: str
    amount_micro: int
    cites: str
    reason: str


@dataclass(frozen=True)
class CreatorStatement:
    """The payout line, why it is what it is, and what its earnings are made of."""

    payout: Payout
    #: Less than this is carried, in micro-units.
    minimum_micro: int
    #: Why the creator was on hold, empty if not.
    hold_reason: str
    notes: list[Note]
    things: list[ThingLine]
    shares: list[SupporterLine]
    seal: str

    @property
    def why(self) -> str:
        """In words, why not all that was earned is paid; empty if it is."""
        return {
            "below_minimum": "The amount due is below the minimum and is carried to the next month.",
            "held": f"The money is held: {self.hold_reason}.",
            "unclaimed": "The money is held until you sign up and name an account.",
            "debt": "Corrections took away more than was earned; the difference is carried.",
        }.get(self.payout.reason, "")


def creator_statement(warehouse: Warehouse, proof: Proof, creator_id: str) -> CreatorStatement:
    """A creator's statement of a closed month. Raises ``PayoutRefused`` if the creator has no line in it."""
    refuse_archived(warehouse, proof.month)
    values = {"month": proof.month, "creator_id": creator_id, "quarantine_version": 0, **proof.snapshot}
    lines = warehouse.rows(named("payout_line"), values)
    if not lines:
        raise PayoutRefused(f"{month_text(proof.month)} has no line for creator {creator_id}: check month and creator.")
    ((hold_reason,),) = warehouse.rows(named("payout_hold_reason"), values)
    return CreatorStatement(
        payout=Payout(*lines[0]),
        minimum_micro=int(proof.rules["minimum_micro"]),
        hold_reason=hold_reason,
        notes=[Note(*row) for row in warehouse.rows(named("payout_creator_notes"), values)],
        things=[
            ThingLine(str(day), shown(thing) or thing_id, flattrs, earned)
            for day, thing_id, thing, flattrs, earned in warehouse.rows(named("payout_creator_things"), values)
        ],
        shares=_shares(proof, warehouse.rows(named("payout_creator_shares"), values)),
        seal=proof.seal,
    )


def _shares(proof: Proof, rows: list[tuple[str, int, int, int, int]]) -> list[SupporterLine]:
    """The shares, their members hashed with the seal for an order that tells nobody's name."""

    def place(row: tuple[str, int, int, int, int]) -> bytes:
        return hashlib.sha256(f"{proof.seal}|{row[0]}".encode()).digest()

    return [
        SupporterLine(number, flattrs, of_all, pool, *divmod(pool * flattrs, of_all), share)
        for number, (_, flattrs, of_all, pool, share) in enumerate(sorted(rows, key=place), start=1)
    ]
