"""The register of creators: who has signed up, their bank accounts, and holds.

Rows are versioned and never changed. CSV columns: creator_id, name, iban, bic (may be empty). A creator listed in the
file has claimed the account. Holds are separate: an import does not change them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingest.contract.names import identifier
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import PayoutRefused, refusing
from warehouse.storage.client import Warehouse, named

COLUMNS: Final = ("creator_id", "name", "iban", "bic")
_IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", re.ASCII)
_BIC: Final = re.compile(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", re.ASCII)
_NAME_MAX: Final = 70  # the limit of pain.001


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


def iban_is_valid(iban: str) -> bool:
    """Whether form and check digits are right (ISO 13616: modulo 97 is 1)."""
    if _IBAN.fullmatch(iban) is None:
        return False
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def read_register(warehouse: Warehouse, creator_ids: Iterable[str] | None = None) -> dict[str, Creator]:
    """The newest row of every creator, or of those named."""
    wanted = None if creator_ids is None else set(creator_ids)
    rows = warehouse.rows(named("payout_register"))
    found = (
        Creator(name_id, bool(claimed), name, iban, bic, bool(held), reason)
        for name_id, claimed, name, iban, bic, held, reason in rows
    )
    return {creator.creator_id: creator for creator in found if wanted is None or creator.creator_id in wanted}


def import_creators(warehouse: Warehouse, path: Path) -> int:
    """Import a file, all rows or none, and return their number. Raises ``PayoutRefused`` naming every bad row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PayoutRefused(f"{path} cannot be read: {error}. Check the path, and save the file as UTF-8.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if sorted(reader.fieldnames or []) != sorted(COLUMNS):
        raise PayoutRefused(f"{path.name} was not imported: its columns must be {','.join(COLUMNS)}.")
    problems: list[str] = []
    found: dict[str, Creator] = {}
    for cells in reader:
        row = {name: (cells[name] or "").strip() for name in COLUMNS}
        reason = _reason_against(row) or ("the creator is listed twice" if row["creator_id"] in found else "")
        if reason:
            problems.append(f"  line {reader.line_num}: {reason}")
        else:
            found[row["creator_id"]] = Creator(row["creator_id"], True, row["name"], row["iban"], row["bic"])
    if problems:
        raise PayoutRefused(f"Nothing was imported from {path.name}. Correct these rows:\n" + "\n".join(problems))
    _change(warehouse, found, lambda before, name: replace(found[name], held=before.held, reason=before.reason))
    return len(found)


def hold(warehouse: Warehouse, creator_id: str, reason: str) -> None:
    """Hold a creator's money from the next close on, until ``release``. Raises ``PayoutRefused`` without a reason."""
    if not reason.strip():
        raise PayoutRefused("A hold needs a reason, because the creator will ask for it.")
    with refusing():
        identifier("creator_id", creator_id)
    _change(warehouse, [creator_id], lambda before, _: replace(before, held=True, reason=reason))


def release(warehouse: Warehouse, creator_id: str) -> None:
    """Lift a hold: the money held is paid with the next close."""
    with refusing():
        identifier("creator_id", creator_id)
    _change(warehouse, [creator_id], lambda before, _: replace(before, held=False, reason=""))


def _change(warehouse: Warehouse, names: Iterable[str], new: Callable[[Creator, str], Creator]) -> None:
    with locked(warehouse, CLOSE):
        register = read_register(warehouse)
        rows = [new(register.get(name, Creator(name)), name) for name in names]
        if not rows:
            return
        ((version,),) = warehouse.rows("SELECT max(version) + 1 FROM creators")
        now = datetime.now(UTC)
        warehouse.insert(
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


def _reason_against(row: dict[str, str]) -> str:
    try:
        identifier("creator_id", row["creator_id"])
    except ValueError as error:
        return str(error)
    if not row["name"] or len(row["name"]) > _NAME_MAX:
        return f"name {row['name']!r} is not 1 to {_NAME_MAX} characters"
    if not iban_is_valid(row["iban"]):
        return f"iban {row['iban']!r} is not a valid IBAN (no spaces, capital letters, correct check digits)"
    if row["bic"] and _BIC.fullmatch(row["bic"]) is None:
        return f"bic {row['bic']!r} is not a BIC"
    return ""
