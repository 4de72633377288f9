"""Pledges as they are stored: versions of what a member pledges for a month, of which the newest holds.

A version takes effect with its row in ``pledge_imports``, written last. An amount of 0 takes a pledge back; no file can
hold that. A version has the rows that it adds, changes or takes back, and no others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.pledge_preview import Change, Key, Owed, changes
from warehouse.pseudonyms import member_sha256
from warehouse.storage.client import Warehouse, named

_BLOCK_ROWS: Final = 500_000
_SHOWN_MAX: Final = 10
#: Who wrote a version: a file, a person who took pledges back, or the bank by what it answered.
Kind = Literal["import", "withdrawal", "answers"]
#: Erased members' pseudonyms and the first month under them, by the SHA-256 of the id.
Pseudonyms = Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class Standing:
    """A pledge that holds now, and the import that said so."""

    month: int
    member_id: str
    owed: Owed
    version: int


def standing_pledges(warehouse: Warehouse, months: Iterable[int], member_id: str = "") -> Iterator[Standing]:
    """What holds now in these months, of all members or one, by month and member."""
    values = {"months": tuple(months), "member_id": member_id}
    if not values["months"]:
        return
    for month, member, amount_micro, currency, paid, version in warehouse.stream(named("standing_pledges"), values):
        yield Standing(month, member, Owed(amount_micro, currency, bool(paid)), version)


def as_owed(standing: Iterable[Standing]) -> dict[Key, Owed]:
    """What is owed, by month and member."""
    return {(one.month, one.member_id): one.owed for one in standing}


def check_not_collected(warehouse: Warehouse, before: Mapping[Key, Owed], after: Mapping[Key, Owed | None]) -> None:
    """Raise ``PayoutRefused`` when a pledge would change that a debit is out for, or was collected by one."""
    touched = {(one.month, one.member_id) for one in changes(before, after)}
    months = tuple({month for month, _ in touched})
    live = set(warehouse.rows(named("debits_live"), {"months": months})) & touched if months else set()
    if live:
        names = sorted(member_id for _, member_id in live)
        more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
        raise PayoutRefused(
            f"A debit is out for the pledge of {', '.join(names[:_SHOWN_MAX])}{more}, or has collected it: only the "
            "bank's answer changes it (`flattr pledges results`). Nothing was changed; leave these pledges out."
        )


def write_version(
    warehouse: Warehouse,
    before: Mapping[Key, Owed],
    after: Mapping[Key, Owed | None],
    sha256: str,
    kind: Kind = "import",
) -> int:
    """Write what differs as a new version, and return its number. The warehouse is the lock's holder's.

    Steps: 1 the rows, in blocks by month; 2 the import's own row. A crash before 2 leaves rows that nobody reads; the
    next import takes a higher version.
    """
    differing = changes(before, after)
    ((version,),) = warehouse.rows(named("pledges_next_version"))
    for block in _blocks(differing):
        owed = [_stored(change) for change in block]
        warehouse.insert(
            "pledges",
            {
                "month": [change.month for change in block],
                "member_id": [change.member_id for change in block],
                "version": [version] * len(block),
                "amount_micro": [one.amount_micro for one in owed],
                "currency": [one.currency for one in owed],
                "paid": [one.paid for one in owed],
            },
        )
    warehouse.insert(
        "pledge_imports",
        {
            "version": [version],
            "sha256": [sha256],
            "rows": [len(differing)],
            "months": [sorted({change.month for change in differing})],
            "imported_at": [datetime.now(UTC)],
            "kind": [kind],
        },
    )
    return int(version)


def _stored(change: Change) -> Owed:
    if change.after is not None:
        return change.after
    return Owed(0, change.before.currency if change.before else "", paid=False)


def _blocks(differing: Sequence[Change]) -> Iterator[Sequence[Change]]:
    by_month: dict[int, list[Change]] = defaultdict(list)
    for change in differing:
        by_month[change.month].append(change)
    for rows in by_month.values():
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield rows[start : start + _BLOCK_ROWS]


def sealed_months(warehouse: Warehouse) -> frozenset[int]:
    """The closed months, in which no pledge changes any more."""
    return frozenset(month for (month,) in warehouse.rows("SELECT month FROM seals"))


def pseudonyms(warehouse: Warehouse) -> Pseudonyms:
    """What erased members are called: a file made before an erasure must not bring the ids back."""
    listed = warehouse.rows("SELECT member_sha256, pseudonym, open_from FROM erasures")
    return {sha256: (pseudonym, open_from) for sha256, pseudonym, open_from in listed}


def renamed(names: Pseudonyms, month: int, member_id: str) -> str:
    """The id under which a member's rows of a month are stored."""
    if not names:
        return member_id
    pseudonym, open_from = names.get(member_sha256(member_id), (member_id, 0))
    return pseudonym if month >= open_from else member_id
