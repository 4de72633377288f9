"""The register of creators: who has signed up, their bank accounts, and holds.

Rows are versioned and never changed. CSV columns: creator_id, name, iban, bic (may be empty). A creator listed in the
file has claimed the account. Holds are separate: an import does not change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingest.contract.names import identifier
from ingest.contract.thing import CONTROL
from warehouse.payout.bank import check_bic, check_iban, sepa_name
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import PayoutRefused, refusing
from warehouse.payout.inputs.strict_csv import ImportRefused, read_file, read_rows
from warehouse.storage.client import Warehouse, named

COLUMNS: Final = ("creator_id", "name", "iban", "bic")
#: How the reason of a hold begins that a returned payment put: another account lifts it.
RETURNED: Final = "returned: "


@dataclass(frozen=True)
class Creator:
    """A creator's current row in the register."""

    creator_id: str
    claimed: bool = False
    name: str = ""
    iban: str = ""
    bic: str = ""
    held: bool = False
    reason: str = ""


def read_register(warehouse: Warehouse, creator_ids: Iterable[str] | None = None) -> dict[str, Creator]:
    """The newest row of every creator, or of those named."""
    wanted = None if creator_ids is None else set(creator_ids)
    rows = warehouse.rows(named("payout_register"))
    found = (
        Creator(name_id, bool(claimed), name, iban, bic, bool(held), reason)
        for name_id, claimed, name, iban, bic, held, reason in rows
    )
    return {creator.creator_id: creator for creator in found if wanted is None or creator.creator_id in wanted}


def import_creators(warehouse: Warehouse, path: Path) -> dict[str, tuple[str, str]]:
    """Import the file, all rows or none. Raises ``ImportRefused`` naming every bad row.

    Returns each creator's name as given and as a bank will write it, by creator id: SEPA knows few characters. A
    creator on hold because a payment came back is released by another account, and by nothing else in the file.
    """
    _, text = read_file(path)
    rows, problems = read_rows(text, COLUMNS, _read_row, lambda row: row[0].creator_id)
    if problems:
        raise ImportRefused(path.name, problems)
    found = {row.creator_id: row for _, (row, _) in rows}
    _change(warehouse, found, lambda before, name: _renewed(before, found[name]))
    return {row.creator_id: (given, row.name) for _, (row, given) in rows}


def _renewed(before: Creator, row: Creator) -> Creator:
    is_released = before.reason.startswith(RETURNED) and before.iban != row.iban
    return replace(row, held=before.held and not is_released, reason="" if is_released else before.reason)


def hold(warehouse: Warehouse, creator_id: str, reason: str) -> None:
    """Keep a creator's money back until ``release``: in the next close, and in every payment that has not left yet."""
    if not reason.strip():
        raise PayoutRefused("A hold needs a reason: the creator will ask for it.")
    _check_known(warehouse, creator_id)
    _change(warehouse, [creator_id], lambda before, _: replace(before, held=True, reason=reason))


def release(warehouse: Warehouse, creator_id: str) -> None:
    """Lift a hold: what waited is paid with the next close."""
    _check_known(warehouse, creator_id)
    _change(warehouse, [creator_id], lambda before, _: replace(before, held=False, reason=""))


def _check_known(warehouse: Warehouse, creator_id: str) -> None:
    """Raise ``PayoutRefused`` for a name that is in no register and has no flattr: it is mistyped."""
    with refusing():
        identifier("creator_id", creator_id)
    ((known,),) = warehouse.rows(named("payout_creator_known"), {"creator_id": creator_id})
    if not known:
        raise PayoutRefused(
            f"There is no creator {creator_id}, neither in the register nor in the counts. Is the name spelt right?"
        )


def _change(warehouse: Warehouse, names: Iterable[str], new: Callable[[Creator, str], Creator]) -> None:
    with locked(warehouse, CLOSE) as held:
        register = read_register(held)
        rows = [new(register.get(name, Creator(name)), name) for name in names]
        if not rows:
            return
        ((version,),) = held.rows("SELECT max(version) + 1 FROM creators")
        now = datetime.now(UTC)
        held.insert(
            "creators",
            {
                "creator_id": [row.creator_id for row in rows],
                "version": [version] * len(rows),
                "claimed": [row.claimed for row in rows],
                "name": [row.name for row in rows],
                "iban": [row.iban for row in rows],
                "bic": [row.bic for row in rows],
                "held": [row.held for row in rows],
                "reason": [row.reason for row in rows],
                "changed_at": [now] * len(rows),
            },
        )


def _read_row(row: dict[str, str]) -> tuple[Creator, str]:
    """A row as the register takes it, and the name as it was given. Raises ``ValueError`` with a sentence."""
    identifier("creator_id", row["creator_id"])
    if CONTROL.search(row["name"]):
        raise ValueError(f"name {row['name'][:80]!r} has a control character or a line end")
    name, iban = sepa_name(row["name"]), check_iban(row["iban"])
    bic = check_bic(row["bic"]) if row["bic"] else ""
    return Creator(row["creator_id"], True, name, iban, bic), row["name"]
