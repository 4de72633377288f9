"""What comes back is booked: a bank's answers, or our own CSV of them, become credits and holds.

Three steps under the close's lock, in this order, so that the same file imported again completes whatever a crash left:

1. holds, in the register. A crash after it leaves creators on hold whose answers are not stored yet: the answers are
   still new to the next import, which puts the same holds again.
2. the answers, in ``bank_answers``. A crash after it leaves answers without a credit.
3. credits, in ``adjustments``: for each payment of the file what is missing between what all of its stored answers come
   to and what was credited already. So it does not matter which import wrote the answers.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from warehouse.payout.books.answers import Answer, came_back, hold_text, reasons_to_hold, unexplained
from warehouse.payout.books.approval import APPROVERS_NEEDED
from warehouse.payout.books.matching import Other, match_csv, match_facts, signed_orders
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.closed_months import Payout
from warehouse.payout.inputs import adjustments, creators
from warehouse.payout.inputs.adjustments import Adjustment, Recredited
from warehouse.payout.inputs.bank_answers import read_answers
from warehouse.payout.inputs.bank_xml import is_xml, read_answer_file
from warehouse.payout.inputs.creators import Creator, read_register
from warehouse.payout.inputs.reason_codes import Action
from warehouse.payout.inputs.strict_csv import decode
from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Booked:
    """What became of one answer. ``action`` is None when nobody was put on hold for it."""

    answer: Answer
    creator_id: str
    is_new: bool
    credited_micro: int
    action: Action | None


@dataclass(frozen=True)
class Imported:
    """What an import did, answer by answer, and what else the file says."""

    lines: tuple[Booked, ...]
    others: tuple[Other, ...]

    @property
    def credited(self) -> dict[str, int]:
        """What is credited with the next close, in micro-units, by currency."""
        sums: dict[str, int] = defaultdict(int)
        for line in self.lines:
            sums[line.answer.currency] += line.credited_micro
        return dict(sums)


@dataclass(frozen=True)
class _Known:
    """What the books know of the payments that a file speaks of."""

    payments: Mapping[str, Payout]
    stored: Mapping[str, list[Answer]]
    recredited: Mapping[str, Recredited]
    register: Mapping[str, Creator]
    paid_to: Mapping[str, set[str]]


@dataclass
class _Plan:
    """What is to be written."""

    register: dict[str, Creator]
    answers: list[Answer]
    credits: list[Adjustment]
    lines: list[Booked]


def import_answers(warehouse: Warehouse, path: Path) -> Imported:
    """Import a bank's answer (XML, see ``bank_xml.VERSIONS``) or our own CSV; its content tells which.

    All or none: raises ``PayoutRefused`` for what cannot be read, and naming every line that cannot be true. Other
    bookings of the account are no error: they are returned, and nothing follows from them.
    """
    content = read_answer_file(path)
    if is_xml(content):
        payments, answers, others = match_facts(warehouse, path.name, read_answers(content))
    else:
        payments, answers, others = match_csv(warehouse, path.name, decode(path.name, content))
    with locked(warehouse, CLOSE) as held:
        plan = _plan(_known(held, payments, answers), answers)
        # 1. holds
        creators.write(held, list(plan.register.values()))
        # 2. answers
        _store(held, plan.answers, hashlib.sha256(content).hexdigest())
        # 3. credits
        adjustments.write(held, plan.credits)
    return Imported(tuple(plan.lines), tuple(others))


def stored_answers(warehouse: Warehouse, months: Iterable[int]) -> dict[str, list[Answer]]:
    """What was said about payments of these months, by payment, oldest first."""
    found: dict[str, list[Answer]] = defaultdict(list)
    wanted = sorted(set(months))
    if wanted:
        for row in warehouse.rows(named("payout_bank_answers"), {"months": wanted}):
            answer = Answer(*row)
            found[answer.payment_id].append(answer)
    return found


def _known(warehouse: Warehouse, payments: Mapping[str, Payout], answers: Sequence[Answer]) -> _Known:
    renewed = {answer.month for answer in answers if answer.reason.action == Action.RENEW}
    return _Known(
        payments,
        stored_answers(warehouse, (answer.month for answer in answers)),
        adjustments.recredited(warehouse),
        read_register(warehouse, {payments[answer.payment_id].creator_id for answer in answers}),
        paid_to(warehouse, renewed),
    )


def paid_to(warehouse: Warehouse, months: Collection[int]) -> dict[str, set[str]]:
    """The accounts, by payment id, that orders signed by enough people have named."""
    found: dict[str, set[str]] = defaultdict(set)
    for order, approvers in signed_orders(warehouse, months):
        if approvers >= APPROVERS_NEEDED:
            for payment in order.payments:
                found[payment.payment_id].add(payment.iban)
    return found


def _plan(known: _Known, answers: Sequence[Answer]) -> _Plan:
    """What follows from the answers, given what is known. Pure."""
    by_payment: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_payment[answer.payment_id].append(answer)
    plan = _Plan({}, [], [], [])
    for payment_id, said in by_payment.items():
        _plan_payment(plan, known, known.payments[payment_id], said)
    return plan


def _plan_payment(plan: _Plan, known: _Known, payment: Payout, said: list[Answer]) -> None:
    before = known.stored.get(payment.payment_id, [])
    keys = {answer.key for answer in before}
    new = list({answer.key: answer for answer in said if answer.key not in keys}.values())
    every = [*before, *new]
    holds = _holds(known, payment, before, every)
    creator = plan.register.get(payment.creator_id) or known.register.get(payment.creator_id)
    creator = creator or Creator(payment.creator_id)
    settled = unexplained(every) - reasons_to_hold(every).keys()
    changed = creators.with_reasons(creator, holds, settled)
    if changed != creator:
        plan.register[payment.creator_id] = changed
    plan.answers += new
    done = known.recredited.get(payment.payment_id, Recredited(0, False))
    in_all = came_back(payment.paid_micro, every)
    missing = max(in_all - done.amount_micro, 0)
    if missing:
        plan.credits.append(adjustments.recredit(payment, missing, in_all, str(every[-1].reason)))
    fresh = {id(answer) for answer in new}
    for answer in sorted(said, key=lambda one: id(one) not in fresh):
        is_new = id(answer) in fresh
        action = holds.get(hold_text(answer)) if is_new else None
        plan.lines.append(Booked(answer, payment.creator_id, is_new, missing, action))
        missing = 0


def _holds(known: _Known, payment: Payout, before: list[Answer], every: list[Answer]) -> dict[str, Action]:
    """The reasons to hold that are new: one that was lifted is not put again because the bank repeats itself.

    An account that was replaced after it was paid is not held: the answer is about the one before it.
    """
    put = reasons_to_hold(before)
    paid_to = known.paid_to.get(payment.payment_id, set())
    creator = known.register.get(payment.creator_id)
    is_renewed = bool(paid_to) and creator is not None and creator.iban not in paid_to
    return {
        text: action
        for text, action in reasons_to_hold(every).items()
        if text not in put and not (is_renewed and action == Action.RENEW)
    }


def _store(warehouse: Warehouse, answers: Sequence[Answer], source_sha256: str) -> None:
    if not answers:
        return
    columns = dict(zip((field.name for field in fields(Answer)), zip(*map(astuple, answers), strict=True), strict=True))
    count = len(answers)
    warehouse.insert(
        "bank_answers",
        {
            **{name: list(column) for name, column in columns.items()},
            "source_sha256": [source_sha256] * count,
            "read_at": [datetime.now(UTC)] * count,
        },
    )
