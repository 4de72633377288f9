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


def things(warehouse: Warehouse, thing_ids: Sequence[str]) -> dict[str, Thing | None]:
    """Whose things are and where: one entry for each id asked for, None when nobody ever flattred it."""
    rows = warehouse.rows(named("things"), {"thing_ids": list(thing_ids)})
    return {**dict.fromkeys(thing_ids), **{thing_id: Thing(creator_id, thing) for thing_id, creator_id, thing in rows}}


def thing_counts(warehouse: Warehouse, month: int, thing_ids: Sequence[str]) -> dict[str, int]:
    """Flattrs of things (32 hexadecimal digits each) in a month, 0 included: one entry for each id asked for."""
    rows = warehouse.rows(named("thing_counts"), {"month": month, "thing_ids": list(thing_ids)})
    return {**dict.fromkeys(thing_ids, 0), **{thing_id: int(flattrs) for thing_id, flattrs in rows}}


def member_counts(warehouse: Warehouse, month: int, member_ids: Sequence[str]) -> dict[str, MemberCount]:
    """Flattrs of members in a month: one entry for each id asked for."""
    rows = warehouse.rows(named("member_counts"), {"month": month, "member_ids": tuple(member_ids)})
    found = {member_id: MemberCount(int(flattrs), int(creators)) for member_id, flattrs, creators in rows}
    return {**dict.fromkeys(member_ids, MemberCount(0, 0)), **found}


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
