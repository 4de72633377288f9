"""Pledges: what members pay, imported from CSV, all rows or none.

Columns: member_id, month (YYYY-MM), amount, currency, paid (true/false, yes/no, 1/0), in any order, with a header.
All versions are stored. An import takes effect with its row in ``pledge_imports``, written last, and the newest
import that has a member and month wins.
"""

from __future__ import annotations

import csv
import hashlib
import io
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
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.money import AmountError, parse_amount
from warehouse.pseudonyms import member_sha256
from warehouse.storage.client import Warehouse, named

COLUMNS: Final = ("member_id", "month", "amount", "currency", "paid")
_PAID: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SHOWN_MAX: Final = 100
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
    """What an import did. ``version`` is 0 if the newest import was the same file, so that nothing was done."""

    version: int
    rows: int
    months: tuple[int, ...]


class PledgesRefused(PayoutRefused):
    """The file has bad rows: each is named by line and reason, and nothing was imported."""

    def __init__(self, name: str, problems: list[str]) -> None:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN_MAX])
        more = f"\n  and {len(problems) - _SHOWN_MAX} more" if len(problems) > _SHOWN_MAX else ""
        super().__init__(f"Nothing was imported from {name}. Correct these rows:\n{shown}{more}")
        self.problems = problems


def read_pledges(text: str, currency: str, sealed: frozenset[int] = frozenset()) -> tuple[list[Pledge], list[str]]:
    """Parse the file's text into the valid rows, and a ``line N: reason`` for every bad one."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    pledges: list[Pledge] = []
    problems: list[str] = []
    seen: dict[tuple[str, int], int] = {}
    try:
        header = [name.strip() for name in next(reader, [])]
        if sorted(header) != sorted(COLUMNS):
            return [], [f"line 1: the header is {','.join(header)!r}; the columns are {','.join(COLUMNS)}"]
        for cells in reader:
            line = reader.line_num
            if not cells:
                continue
            try:
                pledge = _pledge(header, cells, currency, sealed)
            except (ValueError, PayoutRefused) as error:
                problems.append(f"line {line}: {error}")
                continue
            first = seen.setdefault((pledge.member_id, pledge.month), line)
            if first == line:
                pledges.append(pledge)
            else:
                month = month_text(pledge.month)
                problems.append(f"line {line}: line {first} already has {pledge.member_id} in {month}")
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: not valid CSV: {error}")
    return pledges, problems


def _pledge(header: list[str], cells: list[str], currency: str, sealed: frozenset[int]) -> Pledge:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, but the header has {len(header)}")
    row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    member_id = identifier("member_id", row["member_id"])
    month = parse_month(row["month"])
    if month in sealed:
        raise ValueError(f"{row['month']} is closed: make corrections in an open month")
    if row["currency"] != currency:
        raise ValueError(f"currency {row['currency']!r} is not {currency}, the currency of this installation")
    amount_micro = parse_amount(row["amount"], currency)
    if amount_micro == 0:
        raise AmountError("amount is 0: leave out members who pledge nothing")
    paid = _PAID.get(row["paid"].lower())
    if paid is None:
        raise ValueError(f"paid {row['paid']!r} is not true, false, yes, no, 1 or 0")
    return Pledge(member_id, month, amount_micro, currency, paid)


def import_pledges(warehouse: Warehouse, path: Path, currency: str) -> Imported:
    """Import a file, all rows or none. Raises ``PledgesRefused``, and ``MonthLocked`` while a month is closing.

    Steps: 1 the rows, in blocks by month; 2 the import's own row. A crash before 2 leaves rows that nobody reads; the
    next import takes a higher version.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise PayoutRefused(f"{path} cannot be read: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError as error:
        raise PledgesRefused(path.name, [f"byte {error.start}: not UTF-8; save the file as UTF-8"]) from None
    with locked(warehouse, CLOSE):
        return _import(warehouse, path.name, text, hashlib.sha256(content).hexdigest(), currency)


def _import(warehouse: Warehouse, name: str, text: str, sha256: str, currency: str) -> Imported:
    sealed = frozenset(month for (month,) in warehouse.rows("SELECT month FROM seals"))
    pledges, problems = read_pledges(text, currency, sealed)
    if not pledges and not problems:
        problems = ["line 2: no rows below the header"]
    if problems:
        raise PledgesRefused(name, problems)
    newest_sha256, taken = warehouse.rows(named("payout_newest_import"))[0]
    months = tuple(sorted({pledge.month for pledge in pledges}))
    if newest_sha256 == sha256:
        return Imported(0, len(pledges), months)
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
    return Imported(version, len(pledges), months)


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
