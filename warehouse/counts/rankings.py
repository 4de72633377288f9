"""Pages of creators and things by flattrs, most first. The functions block: call them from a worker thread.

``flagged`` is 0 when the month is known to have no quarantine, which makes the query cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warehouse.counts.counts import Count, less_quarantined, shown
from warehouse.storage.client import Warehouse

#: The cursor of the first page: more flattrs than anybody has.
START: Final = (2**63, "")


@dataclass(frozen=True)
class CreatorRank:
    """One line of a list of creators."""

    creator_id: str
    flattrs: int


@dataclass(frozen=True)
class ThingRank:
    """One line of a list of things; ``thing`` as in ``counts.Thing``."""

    thing_id: str
    flattrs: int
    creator_id: str
    thing: str


def _page(month: int, limit: int, after: tuple[int, str], **more: str) -> dict[str, int | str]:
    return {"month": month, "limit": limit, "after_flattrs": after[0], "after_id": after[1], **more}


def top_creators(
    warehouse: Warehouse, month: int, limit: int, after: tuple[int, str] = START, *, flagged: int = 1
) -> list[CreatorRank]:
    """A month's creators after the cursor (flattrs, creator)."""
    return [
        CreatorRank(*row)
        for row in warehouse.rows(less_quarantined("top_creators", flagged), _page(month, limit, after))
    ]


def month_total(warehouse: Warehouse, month: int, *, flagged: int = 1) -> Count:
    """A month's flattrs outside quarantine, which the lists add up to, and those in it."""
    stated, held = warehouse.rows(less_quarantined("month_total", flagged), {"month": month})[0]
    return Count(max(0, int(stated or 0) - int(held)), int(held))


def creators_by_prefix(  # noqa: PLR0913 - as creator_things
    warehouse: Warehouse, month: int, prefix: str, limit: int, after_id: str = "", *, flagged: int = 1
) -> list[CreatorRank]:
    """A month's creators whose id begins with ``prefix``, by id, after an id."""
    params = {"month": month, "prefix": prefix, "limit": limit, "after_id": after_id}
    return [CreatorRank(*row) for row in warehouse.rows(less_quarantined("creators_by_prefix", flagged), params)]


def top_things(
    warehouse: Warehouse, month: int, limit: int, after: tuple[int, str] = START, *, flagged: int = 1
) -> list[ThingRank]:
    """A month's things after the cursor (flattrs, thing id in hex)."""
    return _things(warehouse, less_quarantined("top_things", flagged), _page(month, limit, after))


def creator_things(  # noqa: PLR0913 - a page is named by four things
    warehouse: Warehouse, month: int, creator_id: str, limit: int, after: tuple[int, str] = START, *, flagged: int = 1
) -> list[ThingRank]:
    """A creator's things of a month after the cursor (flattrs, thing id in hex)."""
    params = _page(month, limit, after, creator_id=creator_id)
    return _things(warehouse, less_quarantined("creator_things", flagged), params)


def things_by_id(
    warehouse: Warehouse, month: int, limit: int, after_id: str = "", *, flagged: int = 1
) -> list[ThingRank]:
    """A month's things by id (hex), after an id."""
    params = {"month": month, "limit": limit, "after_id": after_id}
    return [
        ThingRank(thing_id, flattrs, creator_id, shown(thing))
        for thing_id, creator_id, thing, flattrs in warehouse.rows(less_quarantined("month_things", flagged), params)
    ]


def _things(warehouse: Warehouse, query: str, params: dict[str, int | str]) -> list[ThingRank]:
    return [
        ThingRank(thing_id, flattrs, creator_id, shown(thing))
        for thing_id, flattrs, creator_id, thing in warehouse.rows(query, params)
    ]


def member_creators(  # noqa: PLR0913 - as creator_things
    warehouse: Warehouse, month: int, member_id: str, limit: int, after: tuple[int, str] = START, *, flagged: int = 1
) -> list[CreatorRank]:
    """The creators a member flattred in a month, after the cursor (flattrs, creator)."""
    params = _page(month, limit, after, member_id=member_id)
    return [CreatorRank(*row) for row in warehouse.rows(less_quarantined("member_creators", flagged), params)]
