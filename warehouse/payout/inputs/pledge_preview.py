"""What an import or a withdrawal of pledges changes, before it is written. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

LARGEST: Final = 10

#: (month, member id)
Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Owed:
    """What a member pledges for a month, in micro-units, and whether it has come in."""

    amount_micro: int
    currency: str
    paid: bool

    @property
    def paid_micro(self) -> int:
        """What has come in: all of it or nothing."""
        return self.amount_micro if self.paid else 0


@dataclass(frozen=True)
class Change:
    """One member's pledge for one month before and after; None: there is none."""

    month: int
    member_id: str
    before: Owed | None
    after: Owed | None

    @property
    def size_micro(self) -> int:
        """By how much money more or less is pledged, or has come in; 0 if only the currency differs."""
        amounts = [owed.amount_micro if owed else 0 for owed in (self.before, self.after)]
        paid = [owed.paid_micro if owed else 0 for owed in (self.before, self.after)]
        return max(abs(amounts[1] - amounts[0]), abs(paid[1] - paid[0]))


@dataclass(frozen=True)
class MonthSums:
    """All pledges of a month, and those of them that have come in, before and after, in micro-units."""

    month: int
    pledged_before_micro: int
    pledged_after_micro: int
    paid_before_micro: int
    paid_after_micro: int


@dataclass(frozen=True)
class PledgePreview:
    """What would be written, and what it changes.

    ``untouched`` are pledges of the same months that the file says nothing of: they stay. ``largest`` are the ten
    largest changes; ``never_seen`` the members, sorted, that have neither flattred nor pledged before.
    """

    added: int
    changed: int
    withdrawn: int
    unchanged: int
    untouched: int
    sums: tuple[MonthSums, ...]
    largest: tuple[Change, ...]
    never_seen: tuple[str, ...] = ()
    #: what becomes an entry of the next close, because its month is closed: what it cites, and its amount
    charged_back: tuple[tuple[str, int], ...] = ()


def changes(before: Mapping[Key, Owed], after: Mapping[Key, Owed | None]) -> list[Change]:
    """What differs, in the order of ``after``, where None takes a pledge back."""
    return [
        Change(month, member_id, before.get((month, member_id)), owed)
        for (month, member_id), owed in after.items()
        if before.get((month, member_id)) != owed
    ]


def preview_pledges(
    before: Mapping[Key, Owed], after: Mapping[Key, Owed | None], never_seen: Collection[str] = ()
) -> PledgePreview:
    """Compare all pledges of some months, ``before``, with the new ones of the same months, ``after``."""
    differing = changes(before, after)
    added = sum(one.before is None for one in differing)
    withdrawn = sum(one.after is None for one in differing)
    return PledgePreview(
        added=added,
        changed=len(differing) - added - withdrawn,
        withdrawn=withdrawn,
        unchanged=len(after) - len(differing),
        untouched=sum(key not in after for key in before),
        sums=_sums(before, differing),
        largest=tuple(nsmallest(LARGEST, differing, key=_rank)),
        never_seen=tuple(sorted(never_seen)),
    )


def _rank(change: Change) -> tuple[int, bool, int, str]:
    """Largest first; of equal ones first what replaces or takes back something."""
    return -change.size_micro, change.before is None, change.month, change.member_id


def _sums(before: Mapping[Key, Owed], differing: list[Change]) -> tuple[MonthSums, ...]:
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (month, _), owed in before.items():
        _add(sums[month], owed, (0, 1, 2, 3))
    for change in differing:
        line = sums[change.month]
        if change.before is not None:
            line[1] -= change.before.amount_micro
            line[3] -= change.before.paid_micro
        if change.after is not None:
            _add(line, change.after, (1, 3))
    return tuple(MonthSums(month, *line) for month, line in sorted(sums.items()))


def _add(line: list[int], owed: Owed, places: tuple[int, ...]) -> None:
    for place in places:
        line[place] += owed.amount_micro if place < 2 else owed.paid_micro
