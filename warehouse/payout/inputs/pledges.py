"""Pledges: what members pay, imported from CSV, all rows or none.

Columns: member_id, month (YYYY-MM), amount, currency, paid (true/false, yes/no, 1/0), in any order, with a header.
All versions are stored. An import takes effect with its row in ``pledge_imports``, written last, and the newest
import that has a member and month wins.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingest.contract.month import month_text
from ingest.contract.names import identifier
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.months import parse_month
from warehouse.payout.inputs import adjustments
from warehouse.payout.inputs.chargebacks import ChargeBack, charge_backs
from warehouse.payout.inputs.strict_csv import ImportRefused, read_file, read_rows
from warehouse.payout.money import AmountError, parse_amount
from warehouse.pseudonyms import member_sha256
from warehouse.storage.client import Warehouse, named

COLUMNS: Final = ("member_id", "month", "amount", "currency", "paid")
_PAID: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
#: A row may be for a month so many months before or after the present one: a mistyped year is none of these.
WINDOW_MONTHS: Final = 12
_BLOCK_ROWS: Final = 500_000


@dataclass(frozen=True)
class Pledge:
    """One row of the file."""

    member_id: str
    month: int
    amount_micro: int
    currency: str
    paid: bool


@dataclass(frozen=True)
class Imported:
    """What an import did. ``version`` is 0 if the newest import was the same file, so that no pledge was written.

    ``charged_back`` is how many of the file's rows became entries of the next close: they are of closed months.
    """

    version: int
    rows: int
    months: tuple[int, ...]
    charged_back: int = 0


def read_pledges(
    text: str, currency: str, sealed: frozenset[int] = frozenset(), months: range | None = None
) -> tuple[list[Pledge], list[str]]:
    """Read the file's text: the good rows, and a ``line N: reason`` for every bad one.

    ``months`` bounds what a row may be for, counted since year 0 (``_since_0``); None: any month.
    """
    rows, problems = read_rows(
        text,
        COLUMNS,
        lambda row: _pledge(row, currency, sealed, months),
        lambda pledge: f"{pledge.member_id} in {month_text(pledge.month)}",
    )
    return [pledge for _, pledge in rows], problems


def _pledge(row: dict[str, str], currency: str, sealed: frozenset[int], months: range | None) -> Pledge:
    member_id = identifier("member_id", row["member_id"])
    month = parse_month(row["month"])
    if months is not None and _since_0(month) not in months:
        raise ValueError(f"{row['month']} is more than {WINDOW_MONTHS} months from now: is the year right?")
    if row["currency"] != currency:
        raise ValueError(f"currency {row['currency']!r} is not {currency}, the currency of this installation")
    amount_micro = parse_amount(row["amount"], currency)
    if amount_micro == 0:
        raise AmountError("amount is 0: leave out members who pledge nothing")
    paid = _PAID.get(row["paid"].lower())
    if paid is None:
        raise ValueError(f"paid {row['paid']!r} is not true, false, yes, no, 1 or 0")
    if month in sealed and paid:
        raise ValueError(f"{row['month']} is closed: only what was charged back of it (paid: no) can be entered")
    return Pledge(member_id, month, amount_micro, currency, paid)


def _since_0(month: int) -> int:
    return month // 100 * 12 + month % 100


def import_pledges(warehouse: Warehouse, path: Path, currency: str, now_month: int | None = None) -> Imported:
    """Import a file, all rows or none. Rows of months far from ``now_month`` are refused.

    Raises ``ImportRefused``, and ``MonthLocked`` while a month is closing.

    Steps: 1 the rows, in blocks by month; 2 the import's own row. A crash before 2 leaves rows that nobody reads; the
    next import takes a higher version.
    """
    content, text = read_file(path)
    months = None
    if now_month is not None:
        months = range(_since_0(now_month) - WINDOW_MONTHS, _since_0(now_month) + WINDOW_MONTHS + 1)
    with locked(warehouse, CLOSE) as held:
        return _import(held, path.name, text, hashlib.sha256(content).hexdigest(), currency, months)


def _import(  # noqa: PLR0913, PLR0917 - what an import is made of
    warehouse: Warehouse, name: str, text: str, sha256: str, currency: str, window: range | None
) -> Imported:
    sealed = frozenset(month for (month,) in warehouse.rows("SELECT month FROM seals"))
    read, problems = read_pledges(text, currency, sealed, window)
    taken_back = [ChargeBack(row.month, row.member_id, row.amount_micro) for row in read if row.month in sealed]
    entries, refused = charge_backs(warehouse, currency, taken_back)
    if problems or refused:
        raise ImportRefused(name, problems + refused)
    # Before the pledges: a file that is imported again after a crash between the two finds them made.
    charged_back = len(adjustments.write(warehouse, entries))
    pledges = [row for row in read if row.month not in sealed]
    if not pledges:
        return Imported(0, 0, (), charged_back)
    newest_sha256, taken = warehouse.rows(named("payout_newest_import"))[0]
    months = tuple(sorted({pledge.month for pledge in pledges}))
    if newest_sha256 == sha256:
        return Imported(0, len(pledges), months, charged_back)
    version = taken + 1
    for rows in _blocks(_under_pseudonyms(warehouse, pledges)):
        warehouse.insert(
            "pledges",
            {
                "month": [row.month for row in rows],
                "member_id": [row.member_id for row in rows],
                "version": [version] * len(rows),
                "amount_micro": [row.amount_micro for row in rows],
                "currency": [row.currency for row in rows],
                "paid": [row.paid for row in rows],
            },
        )
    warehouse.insert(
        "pledge_imports",
        {
            "version": [version],
            "sha256": [sha256],
            "rows": [len(pledges)],
            "months": [list(months)],
            "imported_at": [datetime.now(UTC)],
        },
    )
    return Imported(version, len(pledges), months, charged_back)


def _blocks(pledges: list[Pledge]) -> Iterator[list[Pledge]]:
    by_month: dict[int, list[Pledge]] = defaultdict(list)
    for pledge in pledges:
        by_month[pledge.month].append(pledge)
    for rows in by_month.values():
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield rows[start : start + _BLOCK_ROWS]


def _under_pseudonyms(warehouse: Warehouse, pledges: Sequence[Pledge]) -> list[Pledge]:
    """Replace erased members' ids by their pseudonyms: a file made before the erasure must not bring the ids back."""
    listed = warehouse.rows("SELECT member_sha256, pseudonym, open_from FROM erasures")
    if not listed:
        return list(pledges)
    names = {sha256: (pseudonym, open_from) for sha256, pseudonym, open_from in listed}
    renamed = []
    for pledge in pledges:
        pseudonym, open_from = names.get(member_sha256(pledge.member_id), ("", 0))
        known = pseudonym and pledge.month >= open_from
        renamed.append(replace(pledge, member_id=pseudonym) if known else pledge)
    return renamed
