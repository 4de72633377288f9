"""Which subscriptions stand, and the flattr that each makes in a month.

A subscription makes one flattr of each month at whose beginning it stands. That click's time is the month's first
millisecond and its id is a function of subscription and month: posting it again changes nothing, and whatever the
member does in that month is later, and wins.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Final, TypeVar

from ingest.contract.month import month_start_ms
from ingest.runtime import aliases as things
from ingest.runtime.aliases import AliasTable
from warehouse.storage.client import Warehouse, named

T = TypeVar("T")
_NAMESPACE: Final = uuid.UUID("6a1c6c0e-8a53-4d1e-9f64-0f3a4a0d9b17")
_PAGE: Final = 20_000
NOTHING_MOVED: Final = AliasTable({})


#: (member, creator, thing id in capitals): behind it subscriptions start
Place = tuple[str, str, str]
START: Final[Place] = ("", "", "")


@dataclass(frozen=True)
class Subscription:
    """One subscription. ``last_month`` is 0 if none is named; ``thing`` is its address or id as it was clicked."""

    member_id: str
    creator_id: str
    thing_id: str
    thing: str
    site_id: str
    last_month: int
    begun_ms: int

    @property
    def place(self) -> Place:
        """Where the subscriptions behind it start."""
        return self.member_id, self.creator_id, self.thing_id.upper()


def posted_click_id(member_id: str, creator_id: str, thing_id: str, month: int) -> str:
    """The id of the click that a subscription makes in a month; ``thing_id`` (hex) is as the thing is named then."""
    return str(uuid.uuid5(_NAMESPACE, f"{member_id} {creator_id} {thing_id} {month}"))


def standing(  # noqa: PLR0913 - each narrows what is asked for
    warehouse: Warehouse,
    month: int,
    *,
    at_ms: int | None = None,
    member_id: str = "",
    table: AliasTable = NOTHING_MOVED,
    page: int = _PAGE,
    after: Place = START,
) -> Iterator[tuple[Subscription, bool]]:
    """Subscriptions that stand at the beginning of ``month`` or at ``at_ms`` and reach it, in order of their keys.

    With each: whether the month has its flattr already, given or taken back. ``table`` is that of the month: where a
    thing has moved, clicks name it by its new address, and the newest one decides under whichever of its addresses.
    They begin behind the place ``after``, and are read ``page`` at a time.
    """
    at_ms = month_start_ms(month) if at_ms is None else at_ms
    while True:
        rows = warehouse.rows(
            named("subscriptions_standing"),
            {"month": month, "at_ms": at_ms, "member": member_id, "after": after, "limit": page},
        )
        found = [(Subscription(*fields), bool(flattred)) for *fields, flattred in rows]
        decided = _decided_elsewhere(warehouse, [one for one, _ in found], at_ms, table)
        yield from (pair for pair in found if pair[0] not in decided)
        if len(rows) < page:
            return
        after = Subscription(*rows[-1][:-1]).place


def _decided_elsewhere(
    warehouse: Warehouse, subscriptions: Sequence[Subscription], at_ms: int, table: AliasTable
) -> set[Subscription]:
    """Those about which the member has said something newer under another address of the thing."""
    if not table.pairs:
        return set()
    ids_of = {one: things.thing_ids(one.creator_id, one.thing, table) for one in subscriptions if one.thing}
    ids_of = {one: thing_ids for one, thing_ids in ids_of.items() if thing_ids != [one.thing_id]}
    if not ids_of:
        return set()
    params = {
        "members": tuple({one.member_id for one in ids_of}),
        "thing_ids": sorted({thing_id for thing_ids in ids_of.values() for thing_id in thing_ids}),
        "at_ms": at_ms,
    }
    said = {(member, thing_id): ms for member, thing_id, ms in warehouse.rows(named("subscriptions_said"), params)}
    return {
        one
        for one, thing_ids in ids_of.items()
        if newest([(thing_id, said.get((one.member_id, thing_id), -1)) for thing_id in thing_ids]) != one.thing_id
    }


def newest(said: Iterable[tuple[T, int]]) -> T:
    """Of the words about one thing under each of its addresses, with their times: the one that stands.

    The address where the thing is now comes first, and at the same moment it decides.
    """
    return max(said, key=itemgetter(1))[0]


@dataclass(frozen=True, slots=True)
class Order:
    """The member's newest click that begins or ends a subscription: whether it stands, and when it was said."""

    stands: bool
    said_ms: int


NOTHING_SAID: Final = Order(stands=False, said_ms=-1)


def orders(
    warehouse: Warehouse, members: Sequence[str], thing_ids: Sequence[str], months: Sequence[int]
) -> dict[tuple[int, str, str], Order]:
    """By (month, member, thing id): what was said, and whether it stands now and reaches the month. Equally long."""
    rows = warehouse.rows(
        named("subscribed"), {"members": list(members), "thing_ids": list(thing_ids), "months": list(months)}
    )
    return {(month, member, thing_id): Order(bool(stands), ms) for member, thing_id, month, stands, ms in rows}


def note_posted(warehouse: Warehouse, month: int, flattrs: int, now_ms: int) -> None:
    """Note that every flattr of a month's subscriptions is in the log."""
    warehouse.insert(
        "subscriptions_posted",
        {"month": [month], "posted_at": [datetime.fromtimestamp(now_ms / 1000, UTC)], "flattrs": [flattrs]},
    )


def posted(warehouse: Warehouse, month: int) -> tuple[datetime, int] | None:
    """When a month's subscriptions were last posted, and how many flattrs in all; None if they never were."""
    rows = warehouse.rows(named("subscriptions_posted"), {"month": month})
    return None if not rows else (rows[0][0], rows[0][1])


def unposted(warehouse: Warehouse, month: int) -> bool:
    """Whether subscriptions stand at a month's beginning and were never posted."""
    return posted(warehouse, month) is None and next(standing(warehouse, month, page=1), None) is not None
