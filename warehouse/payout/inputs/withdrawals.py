"""Pledges of open months, taken back: mistyped members, wrong months, whole files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from ingest.contract.month import month_text
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.pledge_preview import Key, Owed, preview_pledges
from warehouse.payout.inputs.pledge_versions import (
    Standing,
    as_owed,
    check_not_collected,
    pseudonyms,
    renamed,
    sealed_months,
    standing_pledges,
    write_version,
)
from warehouse.payout.inputs.pledges import Confirm, Imported
from warehouse.storage.client import Warehouse

_SHOWN_MAX: Final = 10


def withdraw_members(
    warehouse: Warehouse, month: int, member_ids: Sequence[str], confirm: Confirm = lambda _: True
) -> Imported:
    """Take back what these members pledge for an open month, all or none, if ``confirm`` says so.

    Raises ``PayoutRefused``, and ``MonthLocked`` while a month is closing.
    """
    with locked(warehouse, CLOSE) as held:
        _check_open(held, [month])
        erased = pseudonyms(held)
        wanted = {renamed(erased, month, member_id): member_id for member_id in member_ids}
        standing = {one.member_id: one for one in standing_pledges(held, [month])}
        unknown = sorted(given for name, given in wanted.items() if name not in standing)
        if unknown:
            raise PayoutRefused(
                f"No pledge of {_listed(unknown)} holds in {month_text(month)}, so nothing was withdrawn: "
                f"`flattr pledges list {month_text(month)}` shows those that do."
            )
        return _withdraw(held, [standing[name] for name in wanted], confirm)


def withdraw_import(
    warehouse: Warehouse, version: int, month: int | None = None, confirm: Confirm = lambda _: True
) -> Imported:
    """Take back every pledge that holds by this import, in all its months or one. Raises as ``withdraw_members``.

    What a later import has replaced stays as that says, and what this one had replaced does not come back.
    """
    with locked(warehouse, CLOSE) as held:
        rows = held.rows("SELECT months FROM pledge_imports WHERE version = %(version)s", {"version": version})
        months = [one for one in (rows[0][0] if rows else []) if month in {None, one}]
        _check_open(held, months)
        own = [one for one in standing_pledges(held, months) if one.version == version] if months else []
        if not own:
            where = "" if month is None else f" in {month_text(month)}"
            raise PayoutRefused(f"No pledge{where} holds by import {version}, so nothing was withdrawn.")
        return _withdraw(held, own, confirm)


def _withdraw(warehouse: Warehouse, standing: Iterable[Standing], confirm: Confirm) -> Imported:
    gone: dict[Key, Owed | None] = dict.fromkeys(as_owed(standing))
    months = tuple(sorted({month for month, _ in gone}))
    before = as_owed(standing_pledges(warehouse, months))
    check_not_collected(warehouse, before, gone)
    if not confirm(preview_pledges(before, gone)):
        raise PayoutRefused("Nothing was withdrawn.")
    text = "".join(f"{month}\t{member_id}\n" for month, member_id in sorted(gone))
    sha256 = hashlib.sha256(f"withdrawn\n{text}".encode()).hexdigest()
    return Imported(write_version(warehouse, before, gone, sha256, "withdrawal"), len(gone), months)


def _check_open(warehouse: Warehouse, months: Iterable[int]) -> None:
    closed = sorted(sealed_months(warehouse) & set(months))
    if closed:
        raise PayoutRefused(
            f"{', '.join(map(month_text, closed))} is closed, and its pledges stay as they were sealed: nothing was "
            "withdrawn. Money that was taken back is a charge-back: import the row with `paid` no, and the next close "
            "takes it in."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    return ", ".join(names[:_SHOWN_MAX]) + more
