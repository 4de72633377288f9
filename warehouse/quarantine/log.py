"""The quarantine's audit log: append-only, and the source of which flags are in force."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Self

from ingest.contract.names import identifier
from ingest.contract.thing import THING_ID
from warehouse.payout.errors import PayoutRefused, refusing
from warehouse.storage.client import Warehouse, named

Action = Literal["flag", "release"]
#: Stands in place of a rule's name when a person decided.
BY_HAND: Final = "by hand"
_ALL: Final = 1 << 40


@dataclass(frozen=True, order=True)
class Subject:
    """What a step is about, within one month. Fields that its kind does not use are empty."""

    kind: str
    member_id: str = ""
    creator_id: str = ""
    thing_id: str = ""
    site_id: str = ""

    @classmethod
    def of(cls, *, member_id: str = "", creator_id: str = "", thing_id: str = "", site_id: str = "") -> Self:
        """The subject with these names. Raises ``PayoutRefused`` if they do not make one."""
        given = (bool(member_id), bool(creator_id), bool(thing_id), bool(site_id))
        kind = _KINDS.get(given)
        if kind is None:
            raise PayoutRefused(
                "Name one subject: a member, a member and a creator, a member and a thing (one flattr), "
                "a creator, or a site."
            )
        with refusing():
            for field, value in (("member_id", member_id), ("creator_id", creator_id), ("site_id", site_id)):
                if value:
                    identifier(field, value)
        if thing_id and THING_ID.fullmatch(thing_id) is None:
            raise PayoutRefused(f"{thing_id!r} is not a thing id: give its 32 hexadecimal digits, as in a receipt.")
        return cls(kind, member_id, creator_id, thing_id, site_id)

    def __str__(self) -> str:
        """For example ``member mia, creator ada``."""
        names = {"member": self.member_id, "creator": self.creator_id, "thing": self.thing_id, "site": self.site_id}
        return ", ".join(f"{name} {value}" for name, value in names.items() if value)

    def covers(self, member_id: str, creator_id: str, thing_id: str, site_id: str) -> bool:
        """Whether this subject includes a flattr."""
        own = (self.member_id, self.creator_id, self.thing_id, self.site_id)
        theirs = (member_id, creator_id, thing_id, site_id)
        return all(not mine or mine == other for mine, other in zip(own, theirs, strict=True))


_KINDS: Final = {
    (True, False, True, False): "flattr",
    (True, False, False, False): "member",
    (True, True, False, False): "member_creator",
    (False, False, False, True): "site",
    (False, True, False, False): "creator",
}


@dataclass(frozen=True)
class Entry:
    """A step to append."""

    action: Action
    subject: Subject
    rule: str
    reason: str
    evidence: str
    by: str


@dataclass(frozen=True)
class Step:
    """One row of the log."""

    number: int
    month: int
    action: str
    subject: Subject
    rule: str
    reason: str
    evidence: str
    by: str
    at_ms: int


def read_steps(warehouse: Warehouse, month: int, after: int = 0, limit: int = _ALL) -> list[Step]:
    """The steps of a month after the step ``after``, oldest first."""
    rows = warehouse.rows(named("quarantine_steps"), {"month": month, "after": after, "limit": limit})
    return [Step(number, of, action, Subject(*row[:5]), *row[5:]) for number, of, action, *row in rows]


def in_force(steps: Iterable[Step]) -> dict[Subject, Step]:
    """The flags in force: subjects whose newest step is a flag."""
    newest = {step.subject: step for step in steps}
    return {subject: step for subject, step in newest.items() if step.action == "flag"}


def append(warehouse: Warehouse, month: int, entries: Sequence[Entry], at_ms: int) -> list[int]:
    """Append steps, all or none, and return their numbers. The caller must hold the close's lock."""
    ((last,),) = warehouse.rows("SELECT max(step) FROM quarantine_log")
    numbers = list(range(last + 1, last + 1 + len(entries)))
    subjects = [astuple(entry.subject) for entry in entries]
    warehouse.insert(
        "quarantine_log",
        {
            "step": numbers,
            "month": [month] * len(entries),
            "action": [entry.action for entry in entries],
            **{
                name: [subject[place] for subject in subjects]
                for place, name in enumerate(("kind", "member_id", "creator_id", "thing_id", "site_id"))
            },
            "rule": [entry.rule for entry in entries],
            "reason": [entry.reason for entry in entries],
            "evidence": [entry.evidence for entry in entries],
            "who": [entry.by for entry in entries],
            "at": [datetime.fromtimestamp(at_ms / 1000, UTC)] * len(entries),
        },
    )
    return numbers
