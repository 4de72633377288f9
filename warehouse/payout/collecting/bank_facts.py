"""Which of a bank's facts are about our debits, and what they say of them. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from warehouse.payout.collecting.collection import Answer, State, Stated, message_id
from warehouse.payout.collecting.pain008 import block_id
from warehouse.payout.inputs.bank_answers import Fact
from warehouse.payout.money import as_text

_OURS: Final = re.compile(r"FD-([0-9]{6})-[A-Z0-9-]+", re.ASCII)
#: What a kind of fact, and whether money came in, means for a debit; the others mean nothing yet.
_RESULTS: Final[Mapping[tuple[str, bool], State]] = {
    ("rejected", False): "failed",
    ("returned", False): "returned",
    ("booked", True): "collected",
}
_REASON_LENGTH_MAX: Final = 200


@dataclass
class Matched:
    """What facts say of debits.

    ``problems`` are rejections and returns that cannot be true of our debits. ``remarks`` are bookings that do not fit:
    a stranger chooses what a transfer to us says, so those are no reason to refuse a file.
    """

    answers: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def months_of(facts: Iterable[Fact]) -> list[int]:
    """The months of the debits and files that the facts name."""
    names = (name for fact in facts for name in (fact.end_to_end_id, fact.file_id))
    return sorted({int(found[1]) for name in names if (found := _OURS.fullmatch(name))})


def answers_of(facts: Sequence[Fact], debits: Sequence[Stated]) -> Matched:
    """What the facts say of these debits; facts about anything else are passed over.

    A whole file or block that the bank rejected has failed. One that it booked as one sum is collected but for what
    failed, if the sum agrees.
    """
    by_id = {debit.end_to_end_id: debit for debit in debits}
    by_file: dict[str, list[Stated]] = defaultdict(list)
    for debit in debits:
        name = message_id(debit.month, debit.collect_on)
        by_file[name].append(debit)
        by_file[block_id(name, debit.sequence)].append(debit)
    found = Matched()
    sums = []
    for fact in facts:
        result = _RESULTS.get((fact.kind, fact.is_credit))
        if result is None:
            continue
        if _OURS.fullmatch(fact.end_to_end_id):
            _match_one(found, fact, result, by_id.get(fact.end_to_end_id))
        elif not fact.end_to_end_id and _OURS.fullmatch(fact.file_id):
            if fact.file_id not in by_file:
                (found.remarks if result == "collected" else found.problems).append(
                    f"there was no file of debits {fact.file_id[:40]}"
                )
            elif result == "collected":
                sums.append(fact)
            else:
                found.answers += [_answer(debit, result, fact) for debit in by_file[fact.file_id]]
    for fact in sums:
        _match_sum(found, fact, by_file[fact.file_id])
    return found


def _match_one(found: Matched, fact: Fact, result: State, debit: Stated | None) -> None:
    where = found.remarks if result == "collected" else found.problems
    if debit is None:
        where.append(f"there was no debit {fact.end_to_end_id[:40]}")
        return
    micro = fact.amount_micro
    # A bank may take its charges together with what goes back.
    fits = micro is None or micro == debit.amount_micro or (result == "returned" and micro > debit.amount_micro)
    if not fits or fact.currency not in {"", debit.currency}:
        said = f"{as_text(micro or 0)} {fact.currency}"
        where.append(f"debit {debit.end_to_end_id} was {as_text(debit.amount_micro)} EUR, but {said} was {result}")
        return
    found.answers.append(_answer(debit, result, fact))


def _match_sum(found: Matched, fact: Fact, debits: Sequence[Stated]) -> None:
    failing = {answer.end_to_end_id for answer in found.answers if answer.result == "failed"}
    carried = [one for one in debits if one.state != "failed" and one.end_to_end_id not in failing]
    expected_micro = sum(one.amount_micro for one in carried)
    if fact.amount_micro == expected_micro and fact.currency in {"", "EUR"}:
        found.answers += [_answer(one, "collected", fact) for one in carried]
        return
    found.remarks.append(
        f"{fact.file_id} was booked with {as_text(fact.amount_micro or 0)} {fact.currency}, but its debits that have "
        f"not failed are {as_text(expected_micro)} EUR: import what failed (pain.002) first, then this file again"
    )


def _answer(debit: Stated, result: State, fact: Fact) -> Answer:
    words = " ".join(word for word in (fact.code, fact.note) if word)
    return Answer(debit.end_to_end_id, debit.amount_micro, result, words[:_REASON_LENGTH_MAX], debit.end_to_end_id)
