"""A member's own flattrs: whether things are flattred, and lists. The functions block: call them from a worker thread.

Quarantine plays no part here: it decides about counts and money, and this says what the member's last word was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from warehouse.counts.counts import ONE_THREAD, Key, shown
from warehouse.storage.client import Warehouse, named
from warehouse.subscriptions.standing import NOTHING_SAID, newest, orders

#: (month, time of the click in ms, thing id): behind it a page starts
Place = tuple[int, int, str]
#: Before every flattr of a list, which is newest first.
START: Final[Place] = (2**32 - 1, 2**62, "")
ALL_MONTHS: Final = (0, 2**32 - 1)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member did about a thing: ``subscribed`` flattrs it again each month, as was last said at ``said_ms``."""

    flattred: bool
    subscribed: bool
    said_ms: int


#: Neither, and nothing was ever said.
NOTHING: Final = Standing(flattred=False, subscribed=False, said_ms=NOTHING_SAID.said_ms)


def of_names(standings: Iterable[Standing]) -> Standing:
    """What a member did about a thing that moved, of its names, the one of the month first.

    A flattr is of a month, and so of that one name.
    """
    first, *_ = found = list(standings)
    return replace(first, subscribed=newest((one.subscribed, one.said_ms) for one in found))


@dataclass(frozen=True)
class Flattr:
    """One flattr that stands; ``thing`` as in ``counts.Thing``, ``clicked_at_ms`` the true time of the click."""

    month: int
    thing_id: str
    creator_id: str
    thing: str
    clicked_at_ms: int
    site_id: str

    @property
    def place(self) -> Place:
        """Where the page behind it starts."""
        return self.month, self.clicked_at_ms, self.thing_id


def key(member_id: str, thing_id: str) -> str:
    """A member and a thing as one id of a batch. No id of a member has a blank."""
    return f"{member_id} {thing_id}"


def standings(warehouse: Warehouse, keys: Sequence[Key]) -> dict[Key, Standing]:
    """What became of each (month, member and thing by ``key``), one entry per key."""
    pairs = [name.split(" ") for _, name in keys]
    of_months = [month for month, _ in keys]
    members, thing_ids = [member_id for member_id, _ in pairs], [thing_id for _, thing_id in pairs]
    params = {"months": tuple(set(of_months)), "of_months": of_months, "members": members, "thing_ids": thing_ids}
    rows = warehouse.rows(named("member_standings"), params, ONE_THREAD)
    flattred = {(int(month), key(member_id, thing_id)) for month, member_id, thing_id in rows}
    said = orders(warehouse, members, thing_ids, of_months)
    found = {}
    for one, month, member_id, thing_id in zip(keys, of_months, members, thing_ids, strict=True):
        order = said.get((month, member_id, thing_id), NOTHING_SAID)
        found[one] = Standing(one in flattred, order.stands, order.said_ms)
    return found


def page(
    warehouse: Warehouse, member_id: str, months: tuple[int, int], limit: int, after: Place = START
) -> list[Flattr]:
    """A member's flattrs of a range of months, both included, newest first, at most ``limit`` after the place."""
    params = {
        "member_id": member_id,
        "since": months[0],
        "until": months[1],
        "limit": limit,
        "after_month": after[0],
        "after_ms": after[1],
        "after_id": after[2],
    }
    rows = warehouse.rows(named("member_flattrs"), params, ONE_THREAD)
    return [
        Flattr(int(month), thing_id, creator_id, shown(thing), int(at_ms), site_id)
        for month, thing_id, creator_id, thing, at_ms, site_id in rows
    ]


@dataclass(frozen=True)
class Recorded(Flattr):
    """A flattr as it is recorded: also one that was taken back, and the click that counted."""

    click_id: str
    stands: bool


def recorded(warehouse: Warehouse, member_id: str, limit: int, after: Flattr | None = None) -> list[Recorded]:
    """All of a member's flattrs in the order in which they are stored, at most ``limit`` after one of them."""
    params = {
        "member_id": member_id,
        "limit": limit,
        "after_month": after.month if after else 0,
        "after_creator": after.creator_id if after else "",
        "after_id": after.thing_id if after else "0" * 32,
    }
    return [
        Recorded(int(month), thing_id, creator_id, shown(thing), int(at_ms), site_id, click_id, bool(stands))
        for month, creator_id, thing_id, thing, click_id, at_ms, site_id, stands in warehouse.rows(
            named("member_export"), params, ONE_THREAD
        )
    ]
