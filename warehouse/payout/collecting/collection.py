"""Collecting a month's unpaid pledges: one debit for a member and month, ever, in one file for a month and day.

A file is noted, to the byte, before anybody has it. Asked for again it is the same file, whatever has changed since.

Steps: 1 the debits, in blocks; 2 the file's row, from which on the debits count. A crash before 2 leaves rows that
nobody reads; after 2, the same command gives the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

from ingest.contract.month import month_text
from warehouse.payout.bank import is_target_day
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.collecting.mandates import Mandate, read_mandates
from warehouse.payout.collecting.pain008 import Creditor, Debit, Header, debit_file
from warehouse.payout.csv_out import csv_pieces
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.pledge_versions import Standing, sealed_months, standing_pledges
from warehouse.payout.money import as_text, minor_micro
from warehouse.storage.client import Warehouse, named

#: What a bank takes in one file at most; the others get a file for another day.
DEBITS_MAX: Final = 50_000
#: A mandate that was not used for so long has lapsed (EPC016-06, section 4.1).
LAPSES_MONTHS: Final = 36
_FUTURE_MAX_DAYS: Final = 92
_BLOCK_ROWS: Final = 500_000
DRAFT_COLUMNS: Final = (
    "member_id", "name", "mandate_id", "amount", "currency", "collect_on", "creditor_id", "end_to_end_id",
)  # fmt: skip

State = Literal["pending", "collected", "failed", "returned"]


@dataclass(frozen=True)
class Stated:
    """A debit that was asked for, and what became of it. ``contradictory``: it failed, the bank says, and did not."""

    month: int
    member_id: str
    end_to_end_id: str
    amount_micro: int
    currency: str
    mandate_id: str
    sequence: str
    collect_on: date
    state: State
    contradictory: bool


@dataclass(frozen=True)
class Answer:
    """What the bank says of one debit; ``where`` is what a refusal names, such as ``line 3``."""

    end_to_end_id: str
    amount_micro: int
    result: State
    reason: str = ""
    where: str = ""


@dataclass(frozen=True)
class Due:
    """Who is to be collected from for a month, and who is not, and why; members are sorted."""

    month: int
    debits: tuple[Debit, ...]
    without_mandate: tuple[str, ...] = ()
    too_small: tuple[str, ...] = ()
    lapsed: tuple[str, ...] = ()
    #: left for another day, because a file has its bounds
    waiting: int = 0

    @property
    def sum_micro(self) -> int:
        """What would be collected, in micro-units."""
        return sum(debit.amount_minor for debit in self.debits) * minor_micro("EUR")


@dataclass(frozen=True)
class Terms:
    """By whom, when and how is collected. ``notified_on`` is when the members were told."""

    creditor: Creditor
    collect_on: date
    notified_on: date
    rules: CloseSettings


def end_to_end_id(month: int, member_id: str) -> str:
    """How the bank answers about a debit: a function of month and member, so that nobody is charged twice."""
    return f"FD-{month}-{hashlib.sha256(f'{month}|{member_id}'.encode()).hexdigest()[:24].upper()}"


def message_id(month: int, collect_on: date) -> str:
    """The MsgId of the file of a month and day."""
    return f"FD-{month}-{collect_on:%Y%m%d}"


def check_day(terms: Terms, today: date) -> None:
    """Raise ``PayoutRefused`` unless a bank collects on the day and the members know of it long enough before."""
    on, days = terms.collect_on, terms.rules.close_debit_notice_days
    if not is_target_day(on):
        raise PayoutRefused(f"Banks do not settle on {on}: take a day that TARGET works.")
    if terms.notified_on > today:
        raise PayoutRefused(f"A notice of {terms.notified_on} is not sent yet: give a day until today, {today}.")
    if on < terms.notified_on + timedelta(days=days) or on <= today:
        first = max(terms.notified_on + timedelta(days=days), today + timedelta(days=1))
        raise PayoutRefused(
            f"Members are told of a debit {days} days before. Told on {terms.notified_on}, they can be collected from "
            f"on {first} at the earliest, not on {on}. Give the day they were told with --notified."
        )
    if on > today + timedelta(days=_FUTURE_MAX_DAYS):
        raise PayoutRefused(f"{on} is more than {_FUTURE_MAX_DAYS} days from now: is the date right?")


def due(warehouse: Warehouse, month: int, rules: CloseSettings, collect_on: date) -> Due:
    """Who is to be collected from: unpaid pledges of the month that have a mandate and never had a debit for it."""
    asked = {one.member_id for one in read_debits(warehouse, [month])}
    unpaid = [one for one in standing_pledges(warehouse, [month]) if not one.owed.paid and one.member_id not in asked]
    others = sorted({one.owed.currency for one in unpaid} - {"EUR"})
    if others:
        raise PayoutRefused(f"SEPA collects EUR, and there are pledges in {', '.join(others)}: withdraw those first.")
    used = {name: (last, count) for name, last, count in warehouse.rows(named("mandates_used"))}
    return _sorted_out(month, unpaid, read_mandates(warehouse), used, rules, collect_on)


def _sorted_out(  # noqa: PLR0913, PLR0917 - what decides who is collected from
    month: int,
    unpaid: Sequence[Standing],
    mandates: Mapping[str, Mandate],
    used: Mapping[str, tuple[date, int]],
    rules: CloseSettings,
    collect_on: date,
) -> Due:
    """Pure. ``used`` has the last day and the number of debits that did not fail, by mandate."""
    minimum_micro = rules.close_debit_minimum_minor * minor_micro("EUR")
    debits: list[Debit] = []
    without, small, lapsed = [], [], []
    for one in unpaid:
        mandate = mandates.get(one.member_id)
        if one.owed.amount_micro < minimum_micro:
            small.append(one.member_id)
        elif mandate is None:
            without.append(one.member_id)
        elif _months(used.get(mandate.mandate_id, (mandate.signed_on, 0))[0], collect_on) >= LAPSES_MONTHS:
            lapsed.append(one.member_id)
        else:
            was_used = used.get(mandate.mandate_id, (mandate.signed_on, 0))[1] > 0
            debits.append(
                Debit(
                    month,
                    end_to_end_id(month, one.member_id),
                    one.owed.amount_micro // minor_micro("EUR"),
                    mandate,
                    "RCUR" if was_used else "FRST",
                )
            )
    waiting = max(0, len(debits) - DEBITS_MAX)
    return Due(month, tuple(debits[:DEBITS_MAX]), tuple(without), tuple(small), tuple(lapsed), waiting)


def _months(first: date, last: date) -> int:
    """Whole months between two days."""
    months = (last.year - first.year) * 12 + last.month - first.month
    return months - (last.day < first.day)


def draft_text(due: Due, collect_on: date, creditor_id: str) -> str:
    """Who would be collected from, as CSV: to look at, and to tell the members from."""
    rows = (
        (
            debit.mandate.member_id,
            debit.mandate.name,
            debit.mandate.mandate_id,
            as_text(debit.amount_minor * minor_micro("EUR"), "EUR"),
            "EUR",
            collect_on.isoformat(),
            creditor_id,
            debit.end_to_end_id,
        )
        for debit in due.debits
    )
    return "".join(csv_pieces(DRAFT_COLUMNS, rows))


def collect(  # noqa: PLR0913 - what a collection is decided by, named
    warehouse: Warehouse,
    month: int,
    terms: Terms,
    today: date,
    *,
    more: bool = False,
    confirm: Callable[[Due], bool] = lambda _: True,
    step_done: Callable[[str], None] = lambda _: None,
) -> bytes:
    """The file of the month's debits for a day: the noted one, or else a new one, if ``confirm`` says so.

    A month that has a file gets another, for another day, only with ``more``. Raises ``PayoutRefused``, and
    ``MonthLocked`` while a month is closing.
    """
    with locked(warehouse, CLOSE) as held:
        files = _files(held, month)
        if terms.collect_on in files:
            return files[terms.collect_on]
        if files and not more:
            days = ", ".join(map(str, sorted(files)))
            raise PayoutRefused(
                f"{month_text(month)} is collected on {days} already: give that day to get its file again, or --more "
                f"to collect on {terms.collect_on} from those who have had no debit for {month_text(month)}."
            )
        if month in sealed_months(held):
            raise PayoutRefused(
                f"{month_text(month)} is closed: what was not paid by then is not collected for it any more."
            )
        check_day(terms, today)
        found = due(held, month, terms.rules, terms.collect_on)
        if not found.debits:
            raise PayoutRefused(
                f"Nobody is left to collect from for {month_text(month)}: no pledge is unpaid, has a mandate in force "
                "and no debit yet."
            )
        if not confirm(found):
            raise PayoutRefused("Nothing was collected.")
        return _note(held, found, terms, step_done)


def _note(warehouse: Warehouse, found: Due, terms: Terms, step_done: Callable[[str], None]) -> bytes:
    now = datetime.now(UTC)
    name = message_id(found.month, terms.collect_on)
    header = Header(name, now, terms.creditor, terms.rules.close_debit_scheme, terms.collect_on)
    file = debit_file(header, found.debits)
    sha256 = hashlib.sha256(file).hexdigest()
    for start in range(0, len(found.debits), _BLOCK_ROWS):
        warehouse.insert("debits", _columns(found.debits[start : start + _BLOCK_ROWS], terms.collect_on, sha256))
    step_done("debits")
    warehouse.insert(
        "debit_files",
        {
            "month": [found.month],
            "collect_on": [terms.collect_on],
            "notified_on": [terms.notified_on],
            "message_id": [name],
            "debits": [len(found.debits)],
            "amount_micro": [found.sum_micro],
            "sha256": [sha256],
            "file": [file.decode()],
            "noted_at": [now],
        },
    )
    step_done("file")
    return file


def _columns(debits: Sequence[Debit], collect_on: date, sha256: str) -> dict[str, list[Any]]:
    return {
        "month": [debit.month for debit in debits],
        "member_id": [debit.mandate.member_id for debit in debits],
        "end_to_end_id": [debit.end_to_end_id for debit in debits],
        "amount_micro": [debit.amount_minor * minor_micro("EUR") for debit in debits],
        "currency": ["EUR"] * len(debits),
        "mandate_id": [debit.mandate.mandate_id for debit in debits],
        "sequence": [debit.sequence for debit in debits],
        "collect_on": [collect_on] * len(debits),
        "file_sha256": [sha256] * len(debits),
    }


def read_debits(warehouse: Warehouse, months: Sequence[int]) -> list[Stated]:
    """The debits of these months, by month and member, and what became of each."""
    if not months:
        return []
    rows = warehouse.rows(named("debits_stated"), {"months": tuple(months)})
    return [replace(Stated(*row), contradictory=bool(row[-1])) for row in rows]


def _files(warehouse: Warehouse, month: int) -> dict[date, bytes]:
    """The month's files by day."""
    rows = warehouse.rows("SELECT collect_on, file FROM debit_files WHERE month = %(month)s", {"month": month})
    return {collect_on: file.encode() for collect_on, file in rows}
