"""The register of creators: who has signed up, their bank accounts, and holds.

Rows are versioned and never changed. CSV columns: creator_id, name, iban, bic (may be empty). A creator listed in the
file has claimed the account. Holds are separate: an import does not change them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingest.contract.names import identifier
from ingest.contract.thing import CONTROL
from warehouse.payout.bank import check_bic, check_iban, sepa_name
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import PayoutRefused, one_line, refusing
from warehouse.payout.inputs.strict_csv import ImportRefused, read_file, read_rows
from warehouse.storage.client import Warehouse, columns_of, named

COLUMNS: Final = ("creator_id", "name", "iban", "bic")
#: How a reason begins that a bank's answer put: another account lifts the first kind, only a person the second.
RETURNED: Final = "returned: "
ASKED: Final = "ask: "
_BETWEEN: Final = re.compile(rf"; (?={RETURNED}|{ASKED})")


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


@dataclass(frozen=True)
class RegisterPreview:
    """What an import of creators would change; ids are sorted.

    ``accounts`` are the old and the new IBAN and BIC of who has another account, ``released`` those whose hold ends
    with it. ``written`` has the names that a bank gets otherwise than they are given: (given, written). ``never_seen``
    are new creators whom nobody has flattred: their ids may be mistyped.
    """

    added: tuple[str, ...]
    accounts: Mapping[str, tuple[str, str]]
    renamed: Mapping[str, tuple[str, str]]
    released: tuple[str, ...]
    unchanged: int
    written: Mapping[str, tuple[str, str]]
    never_seen: tuple[str, ...] = ()


def preview_register(
    before: Mapping[str, Creator], after: Mapping[str, Creator], given: Mapping[str, str], seen: Iterable[str] = ()
) -> RegisterPreview:
    """Compare the register with the rows of a file. ``given`` are the names in the file. Pure."""
    known = {name: row for name, row in before.items() if row.iban}
    added = sorted(after.keys() - known.keys())
    pairs = [(name, known[name], after[name]) for name in sorted(after.keys() & known.keys())]
    return RegisterPreview(
        added=tuple(added),
        accounts={name: (_account(old), _account(new)) for name, old, new in pairs if _account(old) != _account(new)},
        renamed={name: (old.name, new.name) for name, old, new in pairs if old.name != new.name},
        released=tuple(name for name, old, new in pairs if old.held and not new.held),
        unchanged=sum(before.get(name) == row for name, row in after.items()),
        written={name: (given[name], row.name) for name, row in after.items() if given[name] != row.name},
        never_seen=tuple(sorted(set(added).difference(seen))),
    )


def _account(creator: Creator) -> str:
    return f"{creator.iban} {creator.bic}".strip()


def read_register(warehouse: Warehouse, creator_ids: Iterable[str] | None = None) -> dict[str, Creator]:
    """The newest row of every creator, or of those named."""
    wanted = None if creator_ids is None else set(creator_ids)
    rows = warehouse.rows(named("payout_register"))
    found = (
        Creator(name_id, bool(claimed), name, iban, bic, bool(held), reason)
        for name_id, claimed, name, iban, bic, held, reason in rows
    )
    return {creator.creator_id: creator for creator in found if wanted is None or creator.creator_id in wanted}


def import_creators(
    warehouse: Warehouse, path: Path, confirm: Callable[[RegisterPreview], bool] = lambda _: True
) -> dict[str, tuple[str, str]]:
    """Import the file, all rows or none, if ``confirm`` says so of what would change (called under the lock).

    Returns each creator's name as given and as a bank will write it, by creator id: SEPA knows few characters. A
    creator on hold because a payment came back is released by another account, and by nothing else in the file.
    Raises ``ImportRefused`` naming every bad row, and ``PayoutRefused`` when not confirmed.
    """
    _, text = read_file(path)
    rows, problems = read_rows(text, COLUMNS, _read_row, lambda row: row[0].creator_id)
    if problems:
        raise ImportRefused(path.name, problems)
    found = {row.creator_id: (row, given) for _, (row, given) in rows}
    with locked(warehouse, CLOSE) as held:
        before = read_register(held)
        after = {name: _renewed(before.get(name, Creator(name)), row) for name, (row, _) in found.items()}
        seen = (creator_id for (creator_id,) in held.stream(named("creators_seen")))
        preview = preview_register(before, after, {name: given for name, (_, given) in found.items()}, seen)
        new = [row for name, row in after.items() if before.get(name) != row]
        if new and not confirm(preview):
            raise PayoutRefused(f"Nothing was imported from {path.name}.")
        write(held, new)
    return {name: (given, row.name) for name, (row, given) in found.items()}


def _renewed(before: Creator, row: Creator) -> Creator:
    renewed = replace(row, held=before.held, reason=before.reason)
    if before.iban == row.iban:
        return renewed
    return with_reasons(renewed, without=[reason for reason in _reasons(before) if reason.startswith(RETURNED)])


def with_reasons(creator: Creator, also: Iterable[str] = (), without: Iterable[str] = ()) -> Creator:
    """The creator with more, or fewer, of a bank's reasons to be on hold, and off hold without any reason. Pure.

    What a person wrote stays, and stands first; the bank's reasons stand sorted behind it, each once.
    """
    reasons = (_reasons(creator) | set(also)) - set(without)
    ordered = sorted(reasons, key=lambda reason: (reason.startswith((RETURNED, ASKED)), reason))
    return replace(creator, held=bool(ordered), reason="; ".join(ordered))


def _reasons(creator: Creator) -> set[str]:
    return set(_BETWEEN.split(creator.reason)) if creator.held else set()


def hold(warehouse: Warehouse, creator_id: str, reason: str) -> None:
    """Keep a creator's money back until ``release``: in the next close, and in every payment that has not left yet."""
    reason = one_line(reason, "A hold needs a reason, for which the creator will ask")
    if any(said.strip().startswith((RETURNED.strip(), ASKED.strip())) for said in reason.split(";")):
        raise PayoutRefused(
            f"The reason begins as a bank's do ({RETURNED.strip()} or {ASKED.strip()}), which another account lifts: "
            "say it in other words."
        )
    _check_known(warehouse, creator_id)
    _change(warehouse, creator_id, lambda before: _held_by_hand(before, reason))


def _held_by_hand(before: Creator, reason: str) -> Creator:
    """On hold for a person's reason in place of the one before; a bank's reasons stay."""
    of_bank = [one for one in _reasons(before) if one.startswith((RETURNED, ASKED))]
    return with_reasons(replace(before, held=True, reason=reason), of_bank)


def release(warehouse: Warehouse, creator_id: str) -> None:
    """Lift a hold: what waited is paid with the next close."""
    _check_known(warehouse, creator_id)
    _change(warehouse, creator_id, lambda before: replace(before, held=False, reason=""))


def _check_known(warehouse: Warehouse, creator_id: str) -> None:
    """Raise ``PayoutRefused`` for a name that is in no register and has no flattr: it is mistyped."""
    with refusing():
        identifier("creator_id", creator_id)
    ((known,),) = warehouse.rows(named("payout_creator_known"), {"creator_id": creator_id})
    if not known:
        raise PayoutRefused(
            f"There is no creator {creator_id}, neither in the register nor in the counts. Is the name spelt right?"
        )


def _change(warehouse: Warehouse, creator_id: str, new: Callable[[Creator], Creator]) -> None:
    with locked(warehouse, CLOSE) as held:
        register = read_register(held, [creator_id])
        write(held, [new(register.get(creator_id, Creator(creator_id)))])


def write(warehouse: Warehouse, rows: Sequence[Creator]) -> None:
    """Write rows as a new version of the register. The warehouse is the lock's holder's."""
    if not rows:
        return
    ((version,),) = warehouse.rows("SELECT max(version) + 1 FROM creators")
    names = [field.name for field in fields(Creator)]
    warehouse.insert("creators", columns_of(rows, *names, version=version, changed_at=datetime.now(UTC)))


def _read_row(row: dict[str, str]) -> tuple[Creator, str]:
    """A row as the register takes it, and the name as it was given. Raises ``ValueError`` with a sentence."""
    identifier("creator_id", row["creator_id"])
    if CONTROL.search(row["name"]):
        raise ValueError(f"name {row['name'][:80]!r} has a control character or a line end")
    name, iban = sepa_name(row["name"]), check_iban(row["iban"])
    bic = check_bic(row["bic"]) if row["bic"] else ""
    return Creator(row["creator_id"], True, name, iban, bic), row["name"]
