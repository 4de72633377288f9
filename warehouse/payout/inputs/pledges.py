"""Pledges: what members pay, imported from CSV, all rows or none, after a look at what it changes.

Columns: member_id, month (YYYY-MM), amount, currency, paid (true/false, yes/no, 1/0), in any order, with a header.
The newest import that has a member and month wins; ``withdrawals.py`` takes pledges back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ingest.contract.month import month_text
from ingest.contract.names import identifier
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.months import parse_month
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs import adjustments
from warehouse.payout.inputs.adjustments import Adjustment
from warehouse.payout.inputs.chargebacks import ChargeBack, charge_backs
from warehouse.payout.inputs.pledge_preview import Key, Owed, PledgePreview, preview_pledges
from warehouse.payout.inputs.pledge_versions import (
    as_owed,
    check_not_collected,
    pseudonyms,
    renamed,
    sealed_months,
    standing_pledges,
    write_version,
)
from warehouse.payout.inputs.strict_csv import ImportRefused, read_file, read_rows
from warehouse.payout.money import AmountError, parse_amount
from warehouse.storage.client import Warehouse, named

COLUMNS: Final = ("member_id", "month", "amount", "currency", "paid")
_PAID: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
#: A row may be for a month so many months before or after the present one: a mistyped year is none of these.
WINDOW_MONTHS: Final = 12

#: Is shown what would change, under the lock, and says whether it is to be written.
Confirm = Callable[[PledgePreview], bool]


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
    """What an import did. ``rows`` are the file's of open months; ``version`` is 0 if all of them held already.

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


def import_pledges(
    warehouse: Warehouse,
    path: Path,
    currency: str,
    now_month: int | None = None,
    confirm: Confirm = lambda _: True,
) -> Imported:
    """Import a file, all rows or none, if ``confirm`` says so. Rows of months far from ``now_month`` are refused.

    Raises ``ImportRefused``, ``PayoutRefused`` when not confirmed, and ``MonthLocked`` while a month is closing.
    """
    content, text = read_file(path)
    window = None
    if now_month is not None:
        window = range(_since_0(now_month) - WINDOW_MONTHS, _since_0(now_month) + WINDOW_MONTHS + 1)
    with locked(warehouse, CLOSE) as held:
        closed = sealed_months(held)
        read, problems = read_pledges(text, currency, closed, window)
        taken_back = [ChargeBack(row.month, row.member_id, row.amount_micro) for row in read if row.month in closed]
        entries, refused = charge_backs(held, currency, taken_back)
        if problems or refused:
            raise ImportRefused(path.name, problems + refused)
        pledges = [row for row in read if row.month not in closed]
        new = adjustments.unknown(held, entries)
        return _import(held, path.name, hashlib.sha256(content).hexdigest(), pledges, new, confirm)


def _import(  # noqa: PLR0913, PLR0917 - what an import is made of
    warehouse: Warehouse,
    name: str,
    sha256: str,
    pledges: list[Pledge],
    entries: list[Adjustment],
    confirm: Confirm,
) -> Imported:
    months = tuple(sorted({pledge.month for pledge in pledges}))
    erased = pseudonyms(warehouse)
    after: dict[Key, Owed | None] = {
        (pledge.month, renamed(erased, pledge.month, pledge.member_id)): Owed(
            pledge.amount_micro, pledge.currency, pledge.paid
        )
        for pledge in pledges
    }
    before = as_owed(standing_pledges(warehouse, months))
    new = {member_id for month, member_id in after if (month, member_id) not in before}
    preview = preview_pledges(before, after, _never_seen(warehouse, new))
    preview = replace(preview, charged_back=tuple((entry.cites, entry.amount_micro) for entry in entries))
    if not preview.added + preview.changed + len(entries):
        return Imported(0, len(pledges), months)
    check_not_collected(warehouse, before, after)
    if not confirm(preview):
        raise PayoutRefused(f"Nothing was imported from {name}.")
    # Before the pledges: a file that is imported again after a crash between the two finds them made.
    charged_back = len(adjustments.write(warehouse, entries))
    version = write_version(warehouse, before, after, sha256) if preview.added + preview.changed else 0
    return Imported(version, len(pledges), months, charged_back)


def _never_seen(warehouse: Warehouse, member_ids: set[str]) -> set[str]:
    """Those who have neither flattred nor pledged before: their ids may be mistyped."""
    unseen = set(member_ids)
    if unseen:
        unseen.difference_update(member for (member,) in warehouse.stream(named("members_seen")))
    return unseen
