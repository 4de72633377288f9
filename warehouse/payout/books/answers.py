"""What follows from a bank's answers about one payment: what is credited again, and why its creator is on hold. Pure.

Each rule looks at the set of a payment's answers, never at their order, so it does not matter in which order, how often
and through which kind of file they arrive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from warehouse.payout.inputs.creators import ASKED, RETURNED
from warehouse.payout.inputs.reason_codes import Action, Reason, reason_of

#: ISO 20022 has no code for what our own CSV says in words.
OWN_WORDS: Final = "own"


@dataclass(frozen=True)
class Answer:
    """One thing that was said about one of our payments, as it is stored.

    ``account_reference``, ``transaction_id`` and ``wording`` are names of the same booking in three ways of naming,
    each empty where it is not known.
    """

    month: int
    payment_id: str
    kind: Literal["rejected", "returned"]
    amount_micro: int
    currency: str
    code: str
    note: str
    is_whole_file: bool
    account_reference: str
    transaction_id: str
    wording: str
    said_on: date

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it apart from other answers: two with one key say the same."""
        names = (self.account_reference, self.transaction_id, self.wording)
        return (self.payment_id, self.kind, self.amount_micro, self.code, self.is_whole_file, *names)

    @property
    def reason(self) -> Reason:
        """Why, and what follows. What is said of a whole file is about the file, not about the payee."""
        if self.code == OWN_WORDS:
            return Reason("", Action.RENEW, self.note)
        reason = reason_of(self.code)
        return Reason(reason.code, Action.PAY_AGAIN, reason.meaning) if self.is_whole_file else reason


def came_back(paid_micro: int, answers: Collection[Answer]) -> int:
    """How much of a payment did not reach its payee, in micro-units, at most what was paid.

    A rejected payment, all of it. Of a returned one, the sum over its bookings; the same booking may be told several
    times, by one name or by another, so each way of naming is summed by itself, and the largest sum counts.
    """
    if any(answer.kind == "rejected" for answer in answers):
        return paid_micro
    sums = (
        _sum_of_distinct((answer.account_reference, answer.amount_micro) for answer in answers),
        _sum_of_distinct((answer.transaction_id, answer.amount_micro) for answer in answers),
        _sum_of_distinct((answer.wording, answer.amount_micro) for answer in answers),
    )
    return min(paid_micro, max(sums))


def _sum_of_distinct(amounts: Iterable[tuple[str, int]]) -> int:
    largest: dict[str, int] = {}
    for name, amount_micro in amounts:
        if name:
            largest[name] = max(largest.get(name, 0), amount_micro)
    return sum(largest.values())


def reasons_to_hold(answers: Collection[Answer]) -> dict[str, Action]:
    """Why the payee of a payment is to be on hold, as it stands in the register: none when it is simply paid again."""
    reasons = ((hold_text(answer), answer.reason.action) for answer in answers)
    found: dict[str, Action] = {text: action for text, action in reasons if action != Action.PAY_AGAIN}
    if any(answer.code or answer.is_whole_file for answer in answers):
        # One file gives the reason and another does not: what is known is not asked.
        return {text: action for text, action in found.items() if text not in unexplained(answers)}
    return found


def unexplained(answers: Collection[Answer]) -> set[str]:
    """The texts of those answers that give no reason."""
    return {hold_text(answer) for answer in answers if not answer.code}


def hold_text(answer: Answer) -> str:
    """A reason of the register. It does not depend on how often or in which words the bank says it."""
    prefix = RETURNED if answer.reason.action == Action.RENEW else ASKED
    words = str(answer.reason).replace(";", ",")
    return f"{prefix}{words} (payment {answer.payment_id})"
