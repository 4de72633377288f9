"""Mandates: which members allow direct debits, from which account. CSV, all rows or none, versioned.

Columns: member_id, mandate_id, signed_on (YYYY-MM-DD), name, iban, bic (may be empty). A member has one mandate at a
time. A mandate that was used is for its account alone: another account is another mandate, with an id of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from ingest.contract.names import identifier
from ingest.contract.thing import CONTROL
from warehouse.payout.bank import check_bic, check_iban, sepa_name
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.pledge_versions import pseudonyms
from warehouse.payout.inputs.strict_csv import ImportRefused, read_file, read_rows
from warehouse.pseudonyms import member_sha256
from warehouse.storage.client import Warehouse, columns_of, named

COLUMNS: Final = ("member_id", "mandate_id", "signed_on", "name", "iban", "bic")
#: SEPA's characters without the blank, at most 35 (EPC130-08, AT-01).
_MANDATE_ID: Final = re.compile(r"[A-Za-z0-9+?/:().,'-]{1,35}")
_SIGNED_FROM: Final = date(1990, 1, 1)
_SHOWN_MAX: Final = 10


@dataclass(frozen=True)
class Mandate:
    """What a member signed; ``name`` is in SEPA's characters."""

    member_id: str
    mandate_id: str
    signed_on: date
    name: str
    iban: str
    bic: str = ""

    def __str__(self) -> str:
        """For people: the mandate and its account."""
        return f"{self.mandate_id} of {self.signed_on}, {self.iban}"


@dataclass(frozen=True)
class MandatePreview:
    """What an import of mandates would change.

    ``changed`` has the old and the new mandate by member, ``written`` the names that a bank gets otherwise than they
    are given: (given, written). ``never_seen`` have neither flattred nor pledged: their ids may be mistyped.
    """

    added: tuple[str, ...]
    changed: Mapping[str, tuple[Mandate, Mandate]]
    unchanged: int
    written: Mapping[str, tuple[str, str]]
    never_seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    """What the warehouse says of mandates: those in force, whose each id ever was, ids used and ids withdrawn."""

    in_force: Mapping[str, Mandate]
    owners: Mapping[str, str]
    used: frozenset[str]
    withdrawn: frozenset[str]
    erased: frozenset[str]


def read_mandates(warehouse: Warehouse) -> dict[str, Mandate]:
    """The mandates in force, by member."""
    rows = warehouse.rows(named("mandates_in_force"))
    return {mandate.member_id: mandate for mandate in (Mandate(*row) for row in rows)}


def preview_mandates(
    before: Mapping[str, Mandate], after: Mapping[str, Mandate], given: Mapping[str, str], seen: Iterable[str] = ()
) -> MandatePreview:
    """Compare the mandates in force with the rows of a file. ``given`` are the names in the file. Pure."""
    changed = {name: (before[name], row) for name, row in after.items() if name in before and before[name] != row}
    added = sorted(after.keys() - before.keys())
    return MandatePreview(
        added=tuple(added),
        changed=changed,
        unchanged=len(after) - len(added) - len(changed),
        written={name: (given[name], row.name) for name, row in after.items() if given[name] != row.name},
        never_seen=tuple(sorted(set(added).difference(seen))),
    )


def import_mandates(
    warehouse: Warehouse, path: Path, today: date, confirm: Callable[[MandatePreview], bool] = lambda _: True
) -> int:
    """Import the file, all rows or none, if ``confirm`` says so, and return how many mandates are new or changed.

    Raises ``ImportRefused`` naming every bad row, ``PayoutRefused`` when not confirmed.
    """
    _, text = read_file(path)
    rows, problems = read_rows(text, COLUMNS, lambda row: _read_row(row, today), lambda row: row[0].member_id)
    with locked(warehouse, CLOSE) as held:
        known = _known(held)
        about: dict[str, int] = {}
        for line, (mandate, _) in rows:
            first = about.setdefault(mandate.mandate_id, line)
            why = (
                f"line {first} already has mandate {mandate.mandate_id}" if first != line else _why_not(known, mandate)
            )
            if why:
                problems.append(f"line {line}: {why}")
        if problems:
            raise ImportRefused(path.name, problems)
        after = {mandate.member_id: mandate for _, (mandate, _) in rows}
        given = {mandate.member_id: name for _, (mandate, name) in rows}
        seen = (member_id for (member_id,) in held.stream(named("members_seen")))
        new = [mandate for name, mandate in after.items() if known.in_force.get(name) != mandate]
        if new and not confirm(preview_mandates(known.in_force, after, given, seen)):
            raise PayoutRefused(f"Nothing was imported from {path.name}.")
        _write(held, new, withdrawn=False)
    return len(new)


def withdraw_mandates(warehouse: Warehouse, member_ids: Sequence[str]) -> list[Mandate]:
    """End these members' mandates: nothing more is collected by them. Raises ``PayoutRefused`` when one has none."""
    with locked(warehouse, CLOSE) as held:
        in_force = read_mandates(held)
        unknown = sorted(set(member_ids) - in_force.keys())
        if unknown:
            raise PayoutRefused(
                f"No mandate is in force of {', '.join(unknown[:_SHOWN_MAX])}, so none was withdrawn. Are the names "
                "spelt right?"
            )
        gone = [in_force[name] for name in dict.fromkeys(member_ids)]
        _write(held, gone, withdrawn=True)
    return gone


def _read_row(row: dict[str, str], today: date) -> tuple[Mandate, str]:
    """A row as it is stored, and the name as it was given. Raises ``ValueError`` with a sentence."""
    identifier("member_id", row["member_id"])
    if _MANDATE_ID.fullmatch(row["mandate_id"]) is None:
        raise ValueError(
            f"mandate_id {row['mandate_id'][:40]!r} is not 1 to 35 letters, digits or +?/:().,'- without blanks"
        )
    if CONTROL.search(row["name"]):
        raise ValueError(f"name {row['name'][:80]!r} has a control character or a line end")
    signed_on = _day(row["signed_on"])
    if not _SIGNED_FROM <= signed_on <= today:
        raise ValueError(f"signed_on {signed_on} is not between {_SIGNED_FROM} and today: is the year right?")
    bic = check_bic(row["bic"]) if row["bic"] else ""
    name, iban = sepa_name(row["name"]), check_iban(row["iban"])
    return Mandate(row["member_id"], row["mandate_id"], signed_on, name, iban, bic), row["name"]


def _day(text: str) -> date:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError(f"signed_on {text[:40]!r} is not a day: write it as YYYY-MM-DD")


def _known(warehouse: Warehouse) -> _Known:
    owners, withdrawn = {}, set[str]()
    for mandate_id, member_id, is_withdrawn in warehouse.rows(named("mandate_ids")):
        owners[mandate_id] = member_id
        if is_withdrawn:
            withdrawn.add(mandate_id)
    used = frozenset(mandate_id for mandate_id, *_ in warehouse.rows(named("mandates_used")))
    return _Known(read_mandates(warehouse), owners, used, frozenset(withdrawn), frozenset(pseudonyms(warehouse)))


def _why_not(known: _Known, mandate: Mandate) -> str:
    """Why a mandate cannot be taken, or ""."""
    name, before = mandate.mandate_id, known.in_force.get(mandate.member_id)
    if member_sha256(mandate.member_id) in known.erased:
        return f"{mandate.member_id} was erased: nothing is collected from them any more"
    if known.owners.get(name, mandate.member_id) != mandate.member_id:
        return f"mandate {name} is {known.owners[name]}'s: no two members share a mandate"
    if name in known.withdrawn:
        return f"mandate {name} was withdrawn: what {mandate.member_id} signs anew has an id of its own"
    same = before is not None and (before.iban, before.signed_on) == (mandate.iban, mandate.signed_on)
    if name in known.used and not same:
        return f"mandate {name} was used with another account or date: another account needs a mandate of its own"
    return ""


def _write(warehouse: Warehouse, mandates: Sequence[Mandate], *, withdrawn: bool) -> None:
    """Write rows as a new version. The warehouse is the lock's holder's."""
    if not mandates:
        return
    ((version,),) = warehouse.rows("SELECT max(version) + 1 FROM mandates")
    warehouse.insert(
        "mandates",
        columns_of(
            mandates,
            "member_id",
            "mandate_id",
            "signed_on",
            "name",
            "iban",
            "bic",
            version=version,
            withdrawn=withdrawn,
            changed_at=datetime.now(UTC),
        ),
    )
