"""The payment order of a closed month: who is paid how much, to which account, when, by whom.

Two people approve an order, so everything that a bank reads stands in it, and the bank's file is a function of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from datetime import UTC, date, datetime
from typing import Final

import msgspec

from ingest.contract.month import month_text
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.settings import Scheme
from warehouse.payout.closed_months import Payout, all_payouts
from warehouse.payout.digest import Digest, text_line
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.creators import Creator, read_register
from warehouse.payout.money import as_text, minor_micro
from warehouse.storage.client import Warehouse, named

_SHOWN_MAX: Final = 10


class Debtor(msgspec.Struct, frozen=True):
    """Whose account pays."""

    name: str
    iban: str
    bic: str


class Payment(msgspec.Struct, frozen=True):
    """One transfer; ``amount_minor`` is in cents. ``payment_id`` is the bank's EndToEndId."""

    payment_id: str
    creator_id: str
    name: str
    iban: str
    bic: str
    amount_minor: int


class Terms(msgspec.Struct, frozen=True):
    """What the approvers decide beside the sealed amounts.

    ``changed_accounts`` are the creators whose account changed within the cooling-off time and is paid all the same:
    each approver has named them.
    """

    debtor: Debtor
    execute_on: date
    scheme: Scheme
    changed_accounts: tuple[str, ...] = ()


class PaymentOrder(msgspec.Struct, frozen=True):
    """Everything that the bank's file says, and the seal that its amounts come from."""

    month: int
    seal: str
    terms: Terms
    payments: tuple[Payment, ...]

    @property
    def sum_minor(self) -> int:
        """What leaves the account, in cents."""
        return sum(payment.amount_minor for payment in self.payments)

    def text(self) -> str:
        """Canonical JSON: one order has one text."""
        return msgspec.json.encode(self, order="sorted").decode()

    @property
    def sha256(self) -> str:
        """Hash of the text, in hexadecimal digits."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @classmethod
    def read(cls, text: str) -> PaymentOrder:
        """An order from its text. Raises ``msgspec.DecodeError``."""
        return msgspec.json.decode(text, type=cls)


def order_of(warehouse: Warehouse, proof: Proof, terms: Terms) -> PaymentOrder:
    """The order for a closed month as of now.

    Payments that were withheld or returned are left out: their amounts are credited with the next close. Raises
    ``PayoutRefused`` when the month is sealed twice or not in EUR, a line is not what was sealed, a payee is on hold
    or has no account, and when nothing is left to pay.
    """
    month = month_text(proof.month)
    if proof.currency != "EUR":
        raise PayoutRefused(f"SEPA transfers are in EUR, this month is in {proof.currency}: export CSV instead.")
    check_one_seal(warehouse, proof.month)
    lines = [line for line in _as_sealed(warehouse, proof) if line.paid_micro]
    settled = {name for (name,) in warehouse.rows(named("payout_settled"), {"month": proof.month})}
    lines = [line for line in lines if line.payment_id not in settled]
    if not lines:
        raise PayoutRefused(f"{month} pays nobody: there is nothing to transfer.")
    register = read_register(warehouse, [line.creator_id for line in lines])
    _check_payees(month, lines, register)
    cent_micro = int(proof.rules["minor_micro"])
    payments = tuple(
        Payment(line.payment_id, line.creator_id, payee.name, payee.iban, payee.bic, line.paid_micro // cent_micro)
        for line in lines
        for payee in (register[line.creator_id],)
    )
    return PaymentOrder(proof.month, proof.seal, terms, payments)


def check_one_seal(warehouse: Warehouse, month: int) -> None:
    """Raise ``PayoutRefused`` when a month was sealed a second time: the first seal holds, and this is an alarm."""
    rows = warehouse.rows("SELECT seals FROM first_seals WHERE month = %(month)s", {"month": month})
    if rows and rows[0][0] > 1:
        raise PayoutRefused(
            f"{month_text(month)} was sealed {rows[0][0]} times with different contents. The first seal holds, and no "
            "payment is made until an operator has found out who wrote the others (table seals_noted)."
        )


def changed_accounts(warehouse: Warehouse, order: PaymentOrder, now: datetime, cooling_off_days: int) -> list[str]:
    """The order's creators whose IBAN changed less than ``cooling_off_days`` before ``now`` (UTC), sorted.

    An account that is the creator's first is none: nothing was redirected.
    """
    paid = {payment.creator_id for payment in order.payments}
    rows = warehouse.rows(named("payout_changed_accounts"))
    return sorted(
        creator_id
        for creator_id, changed_at in rows
        if creator_id in paid and (now - changed_at.replace(tzinfo=UTC)).total_seconds() < cooling_off_days * 86_400
    )


def differences(approved: PaymentOrder, current: PaymentOrder) -> list[str]:
    """What was approved and is not so any more, one sentence each, at most ten of payees."""
    found = []
    if approved.seal != current.seal:
        found.append("the month's seal")
    for name in Terms.__struct_fields__:
        before, after = getattr(approved.terms, name), getattr(current.terms, name)
        if before != after:
            found.append(f"{name.replace('_', ' ')} (approved: {_shown(before)}, now: {_shown(after)})")
    one, two = ({payment.creator_id: payment for payment in order.payments} for order in (approved, current))
    payees = [_difference(name, one.get(name), two.get(name)) for name in sorted(one.keys() | two.keys())]
    payees = [sentence for sentence in payees if sentence]
    more = [f"and {len(payees) - _SHOWN_MAX} more payees"] if len(payees) > _SHOWN_MAX else []
    return [*found, *payees[:_SHOWN_MAX], *more]


def _difference(name: str, one: Payment | None, two: Payment | None) -> str:
    if one is None or two is None:
        return f"{name} was {'not in it' if one is None else 'in it and is not'}"
    changed = [field for field in Payment.__struct_fields__ if getattr(one, field) != getattr(two, field)]
    return f"the {' and '.join(changed)} of {name}" if changed else ""


def _shown(value: object) -> str:
    if isinstance(value, Debtor):
        return f"{value.name} {value.iban}"
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


def in_euro(amount_minor: int) -> str:
    """An amount of an order, such as 12.34."""
    return as_text(amount_minor * minor_micro("EUR"), "EUR")


def _as_sealed(warehouse: Warehouse, proof: Proof) -> Iterator[Payout]:
    """The payout lines, refused at the end when they are not the ones whose hash was sealed."""
    digest = Digest()
    for line in all_payouts(warehouse, proof.month):
        values = [value for field, value in zip(fields(line), astuple(line), strict=True) if field.name != "currency"]
        digest.add(text_line(values[1:]))
        yield line
    if digest.hexdigest() != proof.digests.get("payouts", Digest().hexdigest()):
        month = month_text(proof.month)
        raise PayoutRefused(
            f"The payouts of {month} are not what was sealed: `flattr month verify {month}` names the lines."
        )


def _check_payees(month: str, lines: Sequence[Payout], register: Mapping[str, Creator]) -> None:
    nobody = Creator("")
    missing = [line.creator_id for line in lines if not register.get(line.creator_id, nobody).iban]
    if missing:
        raise PayoutRefused(
            f"No account is known of {_named(missing)}: import them with `flattr creators import`, or leave them out "
            f"with `flattr payouts withhold {month} CREATOR`."
        )
    held = [line.creator_id for line in lines if register.get(line.creator_id, nobody).held]
    if held:
        raise PayoutRefused(
            f"On hold since the close: {_named(held)}. Release them with `flattr creators release`, or leave them out "
            f"with `flattr payouts withhold {month} CREATOR`: the amount then waits in the next close."
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    return ", ".join(names[:_SHOWN_MAX]) + more
