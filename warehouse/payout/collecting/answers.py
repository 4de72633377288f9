"""What the bank answers about debits, and what that makes of the pledges.

The bank's own messages (pain.002, camt.053, camt.054), or a CSV (end_to_end_id, amount, result, reason); all of a file
or nothing. What became of a debit is a function of the set
of its answers: returned, or else failed, or else collected. So the same answers end the same in any order, and however
often they are read.

Steps: 1 the answers; 2 a version of the pledges; 3 charge-backs. After a crash between them the same file is read
again, and takes the steps that are missing: each writes only what is not there yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from ingest.contract.month import month_text
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.collecting.bank_facts import answers_of, months_of
from warehouse.payout.collecting.collection import Answer, State, Stated, message_id, read_debits
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs import adjustments
from warehouse.payout.inputs.adjustments import Adjustment
from warehouse.payout.inputs.bank_answers import read_answers
from warehouse.payout.inputs.bank_xml import is_xml, read_answer_file
from warehouse.payout.inputs.chargebacks import ChargeBack, charge_backs
from warehouse.payout.inputs.pledge_preview import Key, Owed, changes
from warehouse.payout.inputs.pledge_versions import Standing, as_owed, sealed_months, standing_pledges, write_version
from warehouse.payout.inputs.strict_csv import ImportRefused, decode, read_rows
from warehouse.payout.money import as_text, parse_amount
from warehouse.storage.client import Warehouse, columns_of, named

COLUMNS: Final = ("end_to_end_id", "amount", "result", "reason")
_RESULTS: Final[Mapping[str, State]] = {"collected": "collected", "failed": "failed", "returned": "returned"}
_REASON_LENGTH_MAX: Final = 200


@dataclass(frozen=True)
class Taken:
    """What answers did: how many were new, and what became of the debits they are about.

    ``late`` came in after their month was closed, unpaid: they are in no creator's pool. ``contradictory`` failed, by
    one answer, and did not by another.
    """

    new: int
    debits: tuple[Stated, ...]
    charged_back: tuple[Adjustment, ...]
    late: tuple[Stated, ...]
    #: what should have been charged back and could not be, and why
    refused: tuple[str, ...] = ()
    #: bookings that name our debits and do not fit them
    remarks: tuple[str, ...] = ()

    def count(self, state: State) -> int:
        """How many of the debits are now in a state."""
        return sum(one.state == state for one in self.debits)

    @property
    def contradictory(self) -> tuple[Stated, ...]:
        """Debits that the bank says both failed and did not."""
        return tuple(one for one in self.debits if one.contradictory)


def import_results(warehouse: Warehouse, path: Path, step_done: Callable[[str], None] = lambda _: None) -> Taken:
    """Import a CSV or a bank's message. Raises ``ImportRefused`` naming everything that is wrong, ``PayoutRefused``."""
    content = read_answer_file(path)
    if is_xml(content):
        return _import_message(warehouse, path.name, content, step_done)
    rows, problems = read_rows(decode(path.name, content), COLUMNS, _read_row)
    answers = [replace(answer, where=f"line {line}") for line, answer in rows]
    return take_answers(warehouse, path.name, answers, hashlib.sha256(content).hexdigest(), problems, step_done)


def _import_message(warehouse: Warehouse, name: str, content: bytes, step_done: Callable[[str], None]) -> Taken:
    facts = read_answers(content)
    months = months_of(facts)
    found = answers_of(facts, read_debits(warehouse, months) if months else [])
    if not months:
        raise PayoutRefused(
            f"{name} says nothing of our debits. Payments to creators are read by `flattr payouts returns`."
        )
    taken = take_answers(warehouse, name, found.answers, hashlib.sha256(content).hexdigest(), found.problems, step_done)
    return replace(taken, remarks=tuple(found.remarks))


def _read_row(row: dict[str, str]) -> Answer:
    result = _RESULTS.get(row["result"])
    if result is None:
        raise ValueError(f"result {row['result'][:40]!r} is not collected, failed or returned")
    if not row["reason"].isprintable() or len(row["reason"]) > _REASON_LENGTH_MAX:
        raise ValueError(f"reason is not one line of at most {_REASON_LENGTH_MAX} printable characters")
    return Answer(row["end_to_end_id"], parse_amount(row["amount"], "EUR"), result, row["reason"])


def take_booking(warehouse: Warehouse, month: int, collect_on: date) -> Taken:
    """The bank booked the file of a month and day as one sum: every debit of it is collected that has not failed.

    Raises ``PayoutRefused`` when there is no such file.
    """
    debits = [one for one in read_debits(warehouse, [month]) if one.collect_on == collect_on]
    if not debits:
        raise PayoutRefused(f"Nothing was collected for {month_text(month)} on {collect_on}: check month and day.")
    answers = [
        Answer(one.end_to_end_id, one.amount_micro, "collected", "booked in one sum")
        for one in debits
        if one.state == "pending"
    ]
    source = hashlib.sha256(f"booked {message_id(month, collect_on)}".encode()).hexdigest()
    return take_answers(warehouse, message_id(month, collect_on), answers, source)


def take_answers(  # noqa: PLR0913, PLR0917 - what answers are taken from
    warehouse: Warehouse,
    name: str,
    answers: Sequence[Answer],
    source_sha256: str,
    problems: Sequence[str] = (),
    step_done: Callable[[str], None] = lambda _: None,
) -> Taken:
    """Note what the bank answered, and do what follows from it: all of it or, with any problem, nothing."""
    with locked(warehouse, CLOSE) as held:
        asked = frozenset(answer.end_to_end_id for answer in answers)
        known = _stated(held, asked)
        wrong = [f"{answer.where}: {why}" for answer in answers if (why := _why_not(answer, known))]
        if wrong or problems:
            raise ImportRefused(name, [*problems, *wrong])
        noted = set(held.rows(named("debit_answers_noted"), {"ids": tuple(asked)})) if asked else set()
        new = {(one.end_to_end_id, one.result): one for one in answers}
        new = {key: one for key, one in new.items() if key not in noted}
        _write(held, list(new.values()), source_sha256)
        step_done("answers")
        debits = tuple(_stated(held, asked).values())
        return _follow(held, len(new), debits, source_sha256, step_done)


def _why_not(answer: Answer, known: Mapping[str, Stated]) -> str:
    """Why an answer cannot be taken, or ""."""
    debit = known.get(answer.end_to_end_id)
    if debit is None:
        return f"there was no debit {answer.end_to_end_id[:40]!r}"
    if answer.amount_micro != debit.amount_micro:
        said, asked = (as_text(micro, "EUR") for micro in (answer.amount_micro, debit.amount_micro))
        return f"debit {answer.end_to_end_id} was {asked}, but {said} was {answer.result}"
    return ""


def _stated(warehouse: Warehouse, ids: frozenset[str]) -> dict[str, Stated]:
    """The debits with these ids, and what became of them."""
    if not ids:
        return {}
    months = [month for (month,) in warehouse.rows(named("debit_months"), {"ids": tuple(ids)})]
    return {one.end_to_end_id: one for one in read_debits(warehouse, months) if one.end_to_end_id in ids}


def _write(warehouse: Warehouse, answers: Sequence[Answer], source_sha256: str) -> None:
    if not answers:
        return
    warehouse.insert(
        "debit_answers",
        columns_of(
            answers, "end_to_end_id", "result", "reason", source_sha256=source_sha256, noted_at=datetime.now(UTC)
        ),
    )


def _follow(
    warehouse: Warehouse,
    new: int,
    debits: tuple[Stated, ...],
    source_sha256: str,
    step_done: Callable[[str], None],
) -> Taken:
    """Take steps 2 and 3 for these debits."""
    months = sorted({one.month for one in debits})
    standing = {(one.month, one.member_id): one for one in standing_pledges(warehouse, months)} if months else {}
    by_answers = {version for (version,) in warehouse.rows("SELECT version FROM pledge_imports WHERE kind = 'answers'")}
    closed = sealed_months(warehouse)
    after = pledges_after([one for one in debits if one.month not in closed], standing, by_answers)
    before = as_owed(standing.values())
    if changes(before, after):
        write_version(warehouse, before, after, source_sha256, "answers")
    step_done("pledges")
    of_closed = [one for one in debits if one.month in closed]
    back = [one for one in of_closed if one.state in {"failed", "returned"} and _is_by(one, standing, by_answers)]
    late = [one for one in of_closed if one.state == "collected" and not _is_by(one, standing, by_answers)]
    entries, refused = charge_backs(
        warehouse,
        "EUR",
        [ChargeBack(one.month, one.member_id, one.amount_micro, reference=one.end_to_end_id) for one in back],
    )
    made = adjustments.write(warehouse, entries)
    step_done("charge-backs")
    return Taken(new, debits, tuple(made), tuple(late), tuple(refused))


def pledges_after(
    debits: Sequence[Stated], standing: Mapping[Key, Standing], by_answers: Collection[int]
) -> dict[Key, Owed | None]:
    """What debits of open months make of their pledges. Pure; ``by_answers`` are the versions that debits wrote.

    What was collected is what is paid. What failed or came back takes away only what a debit had brought: a member may
    have paid otherwise since.
    """
    after: dict[Key, Owed | None] = {}
    for debit in debits:
        key = (debit.month, debit.member_id)
        if debit.state == "collected":
            after[key] = Owed(debit.amount_micro, debit.currency, paid=True)
        elif debit.state != "pending" and _is_by(debit, standing, by_answers):
            after[key] = replace(standing[key].owed, paid=False)
    return after


def _is_by(debit: Stated, standing: Mapping[Key, Standing], by_answers: Collection[int]) -> bool:
    """Whether the debit's pledge is paid, and by a debit."""
    one = standing.get((debit.month, debit.member_id))
    return one is not None and one.owed.paid and one.version in by_answers
