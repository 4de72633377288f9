"""How each payment stands: signed, rejected, returned, and what of it is credited again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from warehouse.payout.books.answers import Answer, came_back
from warehouse.payout.books.returns import paid_to, stored_answers
from warehouse.payout.closed_months import Payout
from warehouse.payout.inputs.adjustments import Recredited, recredited
from warehouse.storage.client import Warehouse, named


class PaymentState(StrEnum):
    """What is known of a payment. That a signed one was sent, and has arrived, no bank says of each."""

    UNSIGNED = "not signed"
    SIGNED = "signed"
    WITHHELD = "withheld"
    REJECTED = "rejected"
    RETURNED = "returned"
    IN_PART = "returned in part"


@dataclass(frozen=True)
class PaymentStanding:
    """A payment, its state, and what came back and was credited of it, in micro-units."""

    payment: Payout
    state: PaymentState
    came_back_micro: int
    credited_micro: int
    answers: tuple[Answer, ...]


def payment_standings(warehouse: Warehouse, month: int | None = None) -> list[PaymentStanding]:
    """The payments of a closed month by creator; without a month, those of any month that a bank has answered."""
    months = [month] if month else [int(one) for (one,) in warehouse.rows("SELECT DISTINCT month FROM bank_answers")]
    rows = warehouse.rows(named("payout_payments"), {"months": months}) if months else []
    answers, again = stored_answers(warehouse, months), recredited(warehouse)
    signed = paid_to(warehouse, months)
    lines = [Payout(*row) for row in rows]
    return [
        _standing(
            line, answers.get(line.payment_id, ()), again.get(line.payment_id), is_signed=line.payment_id in signed
        )
        for line in lines
        if month or line.payment_id in answers
    ]


def came_back_by_state(warehouse: Warehouse, month: int) -> dict[PaymentState, tuple[int, int]]:
    """Payments of a closed month that did not arrive as made: their number, and what is credited again, by state."""
    answers, again = stored_answers(warehouse, [month]), recredited(warehouse)
    found: dict[PaymentState, tuple[int, int]] = {}
    for row in warehouse.rows(named("payout_payments_back"), {"month": month}):
        line = Payout(*row)
        one = _standing(line, answers.get(line.payment_id, ()), again.get(line.payment_id), is_signed=True)
        if one.state != PaymentState.SIGNED:
            count, micro = found.get(one.state, (0, 0))
            found[one.state] = count + 1, micro + one.credited_micro
    return found


def _standing(
    payment: Payout, answers: Sequence[Answer], again: Recredited | None, *, is_signed: bool
) -> PaymentStanding:
    again = again or Recredited(0, is_withheld=False)
    back = came_back(payment.paid_micro, answers)
    if any(answer.kind == "rejected" for answer in answers):
        state = PaymentState.REJECTED
    elif back:
        state = PaymentState.RETURNED if back == payment.paid_micro else PaymentState.IN_PART
    elif again.is_withheld:
        state = PaymentState.WITHHELD
    elif again.amount_micro:
        state = PaymentState.RETURNED  # by a version that stored no answers
    else:
        state = PaymentState.SIGNED if is_signed else PaymentState.UNSIGNED
    return PaymentStanding(payment, state, back, again.amount_micro, tuple(answers))
