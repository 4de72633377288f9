"""Corrections and payments credited again: new entries that cite a closed line. Nothing sealed ever changes.

They wait in ``adjustments`` and enter the ledger with the next close. An entry's id is a hash of its content, so
entering the same thing twice gives one entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ingest.contract.month import month_text
from ingest.contract.names import identifier
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.closed_months import Payout
from warehouse.payout.errors import PayoutRefused, one_line, refusing
from warehouse.storage.client import Warehouse, named

Account = Literal["fee", "charity", "kept"]


@dataclass(frozen=True)
class Adjustment:
    """A future ledger entry from the debit to the credit account; an account is (class, owner)."""

    id: str
    kind: Literal["correct", "return", "chargeback"]
    debit: tuple[str, str]
    credit: tuple[str, str]
    amount_micro: int
    currency: str
    cites: str
    reason: str


def correct(  # noqa: PLR0913 - what a correction says
    warehouse: Warehouse, creator_id: str, amount_micro: int, *, against: Account, month: int, reason: str
) -> Adjustment:
    """Credit a creator from an account, or debit if the amount is negative, citing the closed month's line.

    Raises ``PayoutRefused`` without a reason, an amount or a closed line to cite.
    """
    if amount_micro == 0:
        raise PayoutRefused("A correction needs an amount other than 0.")
    reason = one_line(reason, "A correction needs a reason")
    with refusing():
        identifier("creator_id", creator_id)
    lines = warehouse.rows(named("payout_line"), {"month": month, "creator_id": creator_id})
    if not lines:
        raise PayoutRefused(
            f"{month_text(month)} has no closed payout line for {creator_id} to correct: check month and creator."
        )
    line = Payout(*lines[0])
    accounts = [(str(against), ""), ("creator", creator_id)]
    debit, credit = accounts if amount_micro > 0 else accounts[::-1]
    cites = f"payouts {month_text(month)} {creator_id}"
    name = name_of("correct", cites, str(amount_micro), against, reason)
    made = Adjustment(name, "correct", debit, credit, abs(amount_micro), line.currency, cites, reason)
    _enter(warehouse, [made])
    return made


def withhold(warehouse: Warehouse, month: int, creator_id: str, reason: str) -> Adjustment:
    """Leave a payment of a closed month out of the bank's file and credit it again with the next close.

    For a payee who was put on hold, or has no account, after the close. Raises ``PayoutRefused``.
    """
    reason = one_line(reason, "A payment is withheld for a reason, for which the creator will ask")
    with refusing():
        identifier("creator_id", creator_id)
    lines = warehouse.rows(named("payout_line"), {"month": month, "creator_id": creator_id})
    if not lines or not Payout(*lines[0]).paid_micro:
        raise PayoutRefused(f"{month_text(month)} pays {creator_id} nothing that could be withheld.")
    payment = Payout(*lines[0])
    with locked(warehouse, CLOSE) as held:
        if payment.payment_id in recredited(held):
            raise PayoutRefused(f"{payment.payment_id} was withheld or returned before: nothing to do.")
        made = recredit(payment, payment.paid_micro, payment.paid_micro, f"withheld: {reason}")
        write(held, [made])
    return made


def recredit(payment: Payout, amount_micro: int, in_all_micro: int, reason: str) -> Adjustment:
    """Credit a creator again with what was not paid, ``in_all_micro`` of this payment with this entry."""
    cites = f"payment {payment.payment_id}"
    owner = payment.creator_id
    name = name_of("return", cites, str(in_all_micro))
    return Adjustment(
        name, "return", ("payable", owner), ("creator", owner), amount_micro, payment.currency, cites, reason
    )


@dataclass(frozen=True)
class Recredited:
    """What of a payment was credited again, in micro-units, and whether because it was withheld."""

    amount_micro: int
    is_withheld: bool


def recredited(warehouse: Warehouse) -> dict[str, Recredited]:
    """Everything that was credited again, by payment id."""
    rows = warehouse.rows(named("payout_recredited"))
    return {
        str(cites).removeprefix("payment "): Recredited(int(amount), bool(withheld)) for cites, amount, withheld in rows
    }


def name_of(*fields: str) -> str:
    """An adjustment's id: its kind, and a hash of its content."""
    return f"{fields[0]}-{hashlib.sha256('|'.join(fields).encode()).hexdigest()[:24]}"


def _enter(warehouse: Warehouse, made: list[Adjustment]) -> list[Adjustment]:
    with locked(warehouse, CLOSE) as held:
        return write(held, made)


def unknown(warehouse: Warehouse, made: Iterable[Adjustment]) -> list[Adjustment]:
    """Those that are not entered yet, each once."""
    known = {name for (name,) in warehouse.rows("SELECT id FROM adjustments")}
    return list({entry.id: entry for entry in made if entry.id not in known}.values())


def write(warehouse: Warehouse, made: list[Adjustment]) -> list[Adjustment]:
    """Write the adjustments that are new, in one block, and return them. The warehouse is the lock's holder's."""
    new = unknown(warehouse, made)
    if new:
        ((version,),) = warehouse.rows("SELECT max(version) + 1 FROM adjustments")
        warehouse.insert(
            "adjustments",
            {
                "version": [version] * len(new),
                "id": [entry.id for entry in new],
                "kind": [entry.kind for entry in new],
                "debit_class": [entry.debit[0] for entry in new],
                "debit_owner": [entry.debit[1] for entry in new],
                "credit_class": [entry.credit[0] for entry in new],
                "credit_owner": [entry.credit[1] for entry in new],
                "amount_micro": [entry.amount_micro for entry in new],
                "currency": [entry.currency for entry in new],
                "cites": [entry.cites for entry in new],
                "reason": [entry.reason for entry in new],
            },
        )
    return new
