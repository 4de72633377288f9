"""Which of our payments a bank's answer, or our own CSV, is about; and which lines of it cannot be true."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Final

import msgspec

from warehouse.payout.books.answers import OWN_WORDS, Answer
from warehouse.payout.books.pain001 import file_name
from warehouse.payout.books.payment_order import PaymentOrder
from warehouse.payout.closed_months import Payout, sealed_months
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.bank_answers import Fact
from warehouse.payout.inputs.reason_codes import DUPLICATES, reason_of, reasons
from warehouse.payout.inputs.strict_csv import ImportRefused, read_rows
from warehouse.payout.money import as_text, minor_micro, parse_amount
from warehouse.storage.client import Warehouse, named

COLUMNS: Final = ("payment_id", "amount", "reason")
#: How the ids of payments to creators begin, and of the files that have them.
OURS: Final = "FL-"
_MONTH: Final = re.compile(rf"{OURS}([0-9]{{6}})-")
_PROBLEMS_SHOWN: Final = 100
#: Of what bears no day. That of the import would make two answers of one that is imported twice.
_NO_DAY: Final = date(1970, 1, 1)

Matched = tuple[Mapping[str, Payout], list[Answer], list["Other"]]


@dataclass(frozen=True)
class Other:
    """Something that the bank says and nothing follows from, and why not."""

    fact: Fact
    why: str


def match_facts(warehouse: Warehouse, name: str, facts: Sequence[Fact]) -> Matched:
    """The payments that the facts speak of, what is said about each, and everything else.

    Raises ``PayoutRefused`` naming each rejection or return of a payment or file that begins as ours do and is not, or
    that does not fit the payment. A stranger chooses what a transfer to us says: no ordinary booking is refused.
    """
    others = [Other(fact, why) for fact in facts if (why := _why_other(fact))]
    ours = [fact for fact in facts if not _why_other(fact)]
    payments = payments_of(warehouse, (fact.end_to_end_id or fact.file_id for fact in ours))
    orders = _orders(warehouse, (fact.file_id for fact in ours if fact.is_whole_file))
    answers: list[Answer] = []
    problems: list[str] = []
    for fact in ours:
        try:
            answers += _of_file(orders, payments, fact) if fact.is_whole_file else [_of_payment(payments, fact)]
        except PayoutRefused as error:
            problems.append(str(error))
    if problems:
        more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
        shown = "\n".join(f"  {problem}" for problem in [*problems[:_PROBLEMS_SHOWN], *more])
        raise PayoutRefused(f"Nothing was imported from {name}. The bank says what the books do not:\n{shown}")
    return payments, answers, others


def _why_other(fact: Fact) -> str:
    """Why nothing follows from a fact, or "" when something does."""
    name = fact.end_to_end_id or fact.file_id
    if not name.startswith(OURS):
        return "not ours"
    if fact.kind == "rejected":
        return ""
    if fact.kind != "returned":
        return {"accepted": "accepted", "booked": "an ordinary booking", "pending": "announced, not booked yet"}[
            fact.kind
        ]
    if not fact.is_credit:
        return "money that left the account"
    if not fact.end_to_end_id:
        return "came back in one sum: ask the bank for the single payments (camt.054)"
    return ""


def payments_of(warehouse: Warehouse, names: Iterable[str]) -> dict[str, Payout]:
    """The payments, by id, of the closed months that these ids of payments or files bear."""
    closed = set(sealed_months(warehouse))
    months = sorted({int(found[1]) for found in map(_MONTH.match, names) if found} & closed)
    rows = warehouse.rows(named("payout_payments"), {"months": months}) if months else []
    return {line.payment_id: line for line in (Payout(*row) for row in rows)}


def _orders(warehouse: Warehouse, files: Iterable[str]) -> dict[str, PaymentOrder]:
    """The payment orders that were signed for the months that these files bear, by the file's name.

    The name is a hash of the order, so nobody can put another one in its place.
    """
    months = {int(found[1]) for found in map(_MONTH.match, files) if found}
    return {file_name(order): order for order, _ in signed_orders(warehouse, months)}


def signed_orders(warehouse: Warehouse, months: Iterable[int]) -> Iterator[tuple[PaymentOrder, int]]:
    """The payment orders that people have signed, and how many: of these months. What is no order is left out."""
    for month in months:
        for text, approvers in warehouse.rows(named("payout_payment_orders"), {"month": month}):
            with suppress(msgspec.DecodeError):
                yield PaymentOrder.read(text), int(approvers)


def _of_file(orders: Mapping[str, PaymentOrder], payments: Mapping[str, Payout], fact: Fact) -> list[Answer]:
    order = orders.get(fact.file_id)
    if order is None:
        raise PayoutRefused(f"file {fact.file_id!r} is rejected, but nobody signed such a file")
    if fact.code in DUPLICATES:
        raise PayoutRefused(
            f"file {fact.file_id} was sent before ({reason_of(fact.code)}): what the bank did with the first one "
            "stands, so nothing of it is credited"
        )
    unknown = [payment.payment_id for payment in order.payments if payment.payment_id not in payments]
    if unknown:
        raise PayoutRefused(f"file {fact.file_id} has the payment {unknown[0]!r}, but nothing was paid under this name")
    return [_rejected(payments[payment.payment_id], fact) for payment in order.payments]


def _rejected(payment: Payout, fact: Fact) -> Answer:
    return Answer(
        payment.month, payment.payment_id, "rejected", payment.paid_micro, payment.currency, fact.code, fact.note,
        fact.is_whole_file, fact.account_reference, "", "", fact.said_on or _NO_DAY,
    )  # fmt: skip


def _of_payment(payments: Mapping[str, Payout], fact: Fact) -> Answer:
    name = fact.end_to_end_id
    if not name:
        raise PayoutRefused(f"file {fact.file_id}: a payment is rejected that the bank does not name")
    payment = payments.get(name)
    if payment is None:
        raise PayoutRefused(f"payment {name!r} is {fact.kind}, but nothing was paid under this name")
    paid = f"payment {name} was {as_text(payment.paid_micro, payment.currency)} {payment.currency}"
    said = "an amount that it does not say"
    if fact.amount_micro is not None:
        said = f"{as_text(fact.amount_micro)} {fact.currency}"
    if fact.kind == "rejected":
        if fact.amount_micro is not None and (fact.amount_micro, fact.currency) != _amount(payment):
            raise PayoutRefused(f"{paid}, but the bank rejected {said}")
        return _rejected(payment, fact)
    if fact.amount_micro is None or fact.currency != payment.currency or not _fits(fact.amount_micro, payment):
        raise PayoutRefused(f"{paid}, but {said} came back")
    has_name = bool(fact.account_reference or fact.transaction_id)
    wording = "" if has_name else f"{fact.said_on} {fact.amount_micro} {fact.code}"
    return Answer(
        payment.month, name, "returned", fact.amount_micro, fact.currency, fact.code, fact.note, False,
        fact.account_reference, fact.transaction_id, wording, fact.said_on or _NO_DAY,
    )  # fmt: skip


def _amount(payment: Payout) -> tuple[int, str]:
    return payment.paid_micro, payment.currency


def _fits(amount_micro: int, payment: Payout) -> bool:
    return 0 < amount_micro <= payment.paid_micro and amount_micro % minor_micro(payment.currency) == 0


def match_csv(warehouse: Warehouse, name: str, text: str) -> Matched:
    """What our own CSV says: payment_id, amount, reason, and, where known, the bank's reference.

    A reason may begin with a code of ISO 20022. Without a reference, rows of one payment with the same amount and
    reason are one. Raises ``ImportRefused`` naming every bad row.
    """
    columns = (*COLUMNS, "reference") if "reference" in text.partition("\n")[0] else COLUMNS
    rows, problems = read_rows(text, columns, dict)
    payments = payments_of(warehouse, (row["payment_id"] for _, row in rows))
    answers: list[Answer] = []
    for number, row in rows:
        try:
            answers.append(_of_row(payments, row))
        except (ValueError, PayoutRefused) as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise ImportRefused(name, problems)
    return payments, answers, []


def _of_row(payments: Mapping[str, Payout], row: Mapping[str, str]) -> Answer:
    payment = payments.get(row["payment_id"])
    if payment is None:
        raise PayoutRefused(f"payment {row['payment_id']!r} is unknown")
    if not row["reason"]:
        raise PayoutRefused(f"payment {payment.payment_id} came back for a reason: write it down")
    amount_micro = parse_amount(row["amount"], payment.currency)
    if not _fits(amount_micro, payment):
        paid = as_text(payment.paid_micro, payment.currency)
        raise PayoutRefused(f"payment {payment.payment_id} was {paid}, but {row['amount']} was returned")
    code = row["reason"][:4]
    is_code = code in reasons() and not row["reason"][4:5].isalnum()
    reference = row.get("reference", "")
    return Answer(
        payment.month, payment.payment_id, "returned", amount_micro, payment.currency, code if is_code else OWN_WORDS,
        row["reason"], False, reference, "", "" if reference else f"{amount_micro} {row['reason']}", _NO_DAY,
    )  # fmt: skip
