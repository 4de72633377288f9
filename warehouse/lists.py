"""Lists by flattrs, most first: pages of creators and things. The functions block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warehouse.client import Warehouse, named

#: More flattrs than there are: the first page.
START: Final = (2**63, "")


@dataclass(frozen=True)
class CreatorRank:
    """One line of a list of creators."""

    creator_id: str
    flattrs: int


@dataclass(frozen=True)
class ThingRank:
    """One line of a list of things."""

    thing_id: str
    flattrs: int
    creator_id: str
    thing: str


def _page(month: int, limit: int, after: tuple[int, str], **more: str) -> dict[str, int | str]:
    return {"month": month, "limit": limit, "after_flattrs": after[0], "after_id": after[1], **more}


def top_creators(warehouse: Warehouse, month: int, limit: int, after: tuple[int, str] = START) -> list[CreatorRank]:
    """Creators of a month after (flattrs, creator)."""
    return [CreatorRank(*row) for row in warehouse.rows(named("top_creators"), _page(month, limit, after))]


def top_things(warehouse: Warehouse, month: int, limit: int, after: tuple[int, str] = START) -> list[ThingRank]:
    """Things of a month after (flattrs, thing id in hex)."""
    return [ThingRank(*row) for row in warehouse.rows(named("top_things"), _page(month, limit, after))]


def creator_things(
    warehouse: Warehouse, month: int, creator_id: str, limit: int, after: tuple[int, str] = START
) -> list[ThingRank]:
    """A creator's things of a month after (flattrs, thing id in hex)."""
    params = _page(month, limit, after, creator_id=creator_id)
    return [ThingRank(*row) for row in warehouse.rows(named("creator_things"), params)]


def member_creators(
    warehouse: Warehouse, month: int, member_id: str, limit: int, after: tuple[int, str] = START
) -> list[CreatorRank]:
    """The creators that a member flattred in a month after (flattrs, creator)."""
    params = _page(month, limit, after, member_id=member_id)
    return [CreatorRank(*row) for row in warehouse.rows(named("member_creators"), params)]
