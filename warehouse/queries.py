"""Typed functions over ``queries/*.sql`` for the read API. They block: call them from a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warehouse.client import Warehouse, named


@dataclass(frozen=True)
class Thing:
    """What a thing's id stands for."""

    creator_id: str
    thing: str


@dataclass(frozen=True)
class MemberCount:
    """A member's month: flattrs, and the creators that they go to."""

    flattrs: int
    creators: int


def creator_count(warehouse: Warehouse, month: int, creator_id: str) -> int:
    """Flattrs of a creator in a month such as 202611; 0 for one that nobody flattred."""
    return int(warehouse.rows(named("creator_count"), {"month": month, "creator_id": creator_id})[0][0])


def thing_count(warehouse: Warehouse, month: int, thing_id: str) -> int:
    """Flattrs of a thing (32 hexadecimal digits) in a month."""
    return int(warehouse.rows(named("thing_count"), {"month": month, "thing_id": thing_id})[0][0])


def thing(warehouse: Warehouse, thing_id: str) -> Thing | None:
    """Whose a thing is and where; None when nobody ever flattred it."""
    rows = warehouse.rows(named("thing"), {"thing_id": thing_id})
    return Thing(*rows[0]) if rows else None


def member_count(warehouse: Warehouse, month: int, member_id: str) -> MemberCount:
    """A member's flattrs in a month."""
    flattrs, creators = warehouse.rows(named("member_count"), {"month": month, "member_id": member_id})[0]
    return MemberCount(int(flattrs), int(creators))


def counters(warehouse: Warehouse, month: int, thing_ids: Sequence[str]) -> dict[str, int]:
    """Flattrs of things in a month, 0 included: one entry for each id asked for."""
    rows = warehouse.rows(named("counters"), {"month": month, "thing_ids": list(thing_ids)})
    return {**dict.fromkeys(thing_ids, 0), **{thing_id: int(flattrs) for thing_id, flattrs in rows}}


def creator_counts(warehouse: Warehouse, month: int, creator_ids: Sequence[str]) -> dict[str, int]:
    """Flattrs of creators in a month, 0 included: one entry for each id asked for."""
    if not creator_ids:
        return {}
    rows = warehouse.rows(named("creator_counts"), {"month": month, "creator_ids": tuple(creator_ids)})
    return {**dict.fromkeys(creator_ids, 0), **{creator_id: int(flattrs) for creator_id, flattrs in rows}}


def server_now_ms(warehouse: Warehouse) -> int:
    """The server's clock."""
    return int(warehouse.rows(named("server_now"))[0][0])


def changed_creators(warehouse: Warehouse, month: int, since_ms: int) -> set[str]:
    """Creators whose counts were stored since a moment of the server's clock."""
    rows = warehouse.rows(named("changed_creators"), {"month": month, "since_ms": since_ms})
    return {creator_id for (creator_id,) in rows}
