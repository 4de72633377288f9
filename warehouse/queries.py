"""Typed functions over ``queries/*.sql`` for the read API. They block: call them from a worker thread."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from warehouse.client import Warehouse, named

#: For a few granules: to hand them to several threads costs the server half as much again as to read them.
ONE_THREAD: Final = {"max_threads": 1}
_FEW: Final = 100


@dataclass(frozen=True)
class Thing:
    """What a thing's id stands for."""

    creator_id: str
    thing: str


@dataclass(frozen=True, slots=True)
class Count:
    """Flattrs that count, and those that stand beside them in quarantine."""

    flattrs: int
    quarantined: int = 0


@dataclass(frozen=True)
class MemberCount:
    """A member's month: flattrs, the creators that they go to, and flattrs in quarantine."""

    flattrs: int
    creators: int
    quarantined: int = 0


def things(warehouse: Warehouse, thing_ids: Sequence[str]) -> dict[str, Thing | None]:
    """Whose things are and where: one entry for each id asked for, None when nobody ever flattred it."""
    rows = warehouse.rows(named("things"), {"thing_ids": list(thing_ids)}, _threads(thing_ids))
    return {**dict.fromkeys(thing_ids), **{thing_id: Thing(creator_id, thing) for thing_id, creator_id, thing in rows}}


def thing_counts(warehouse: Warehouse, month: int, thing_ids: Sequence[str], flagged: int = 1) -> dict[str, Count]:
    """Flattrs of things (32 hexadecimal digits each) in a month, 0 included: one entry for each id asked for.

    ``flagged`` is 0 when the month is known to have no quarantine: then nothing is asked of it.
    """
    params = {"month": month, "thing_ids": list(thing_ids)}
    stated: dict[str, int] = dict(warehouse.rows(named("thing_counts"), params, _threads(thing_ids)))
    held: dict[str, int] = dict(warehouse.rows(named("thing_quarantined"), params)) if flagged else {}
    return _less(thing_ids, stated, held)


def member_counts(
    warehouse: Warehouse, month: int, member_ids: Sequence[str], flagged: int = 1
) -> dict[str, MemberCount]:
    """Flattrs of members in a month: one entry for each id asked for. ``flagged`` as in ``thing_counts``."""
    params = {"month": month, "member_ids": tuple(member_ids)}
    query = named("member_counts_quarantined" if flagged else "member_counts")
    rows = warehouse.rows(query, params, _threads(member_ids))
    found = {member_id: MemberCount(*map(int, counts)) for member_id, *counts in rows}
    return {**dict.fromkeys(member_ids, MemberCount(0, 0)), **found}


def creator_counts(warehouse: Warehouse, month: int, creator_ids: Sequence[str], flagged: int = 1) -> dict[str, Count]:
    """Flattrs of creators in a month, 0 included; ``flagged`` as in ``thing_counts``."""
    if not creator_ids:
        return {}
    params = {"month": month, "creator_ids": tuple(creator_ids)}
    stated: dict[str, int] = dict(warehouse.rows(named("creator_counts"), params, _threads(creator_ids)))
    held: dict[str, int] = dict(warehouse.rows(named("creator_quarantined"), params)) if flagged else {}
    return _less(creator_ids, stated, held)


def _threads(ids: Sequence[str]) -> Mapping[str, Any] | None:
    return ONE_THREAD if len(ids) <= _FEW else None


def _less(ids: Sequence[str], stated: Mapping[str, int], held: Mapping[str, int]) -> dict[str, Count]:
    """Counts less what is in quarantine. A flattr is written before its count: for that moment it is no debt."""
    return {
        name: Count(max(0, int(stated.get(name, 0)) - int(held.get(name, 0))), int(held.get(name, 0))) for name in ids
    }


@functools.cache
def _plain(query: str) -> str:
    return re.sub(r"^ *-- quarantine\n.*?^ *-- end\n", "", named(query), flags=re.MULTILINE | re.DOTALL)


def less_quarantined(query: str, flagged: int) -> str:
    """A named query; without what it asks of the quarantine when ``flagged`` is 0, as in ``thing_counts``."""
    return named(query) if flagged else _plain(query)


def quarantine_version(warehouse: Warehouse, month: int) -> int:
    """The newest version of a month's quarantine; 0 while nothing was ever flagged."""
    return int(warehouse.rows(named("quarantine_version"), {"month": month}, ONE_THREAD)[0][0])


def server_now_ms(warehouse: Warehouse) -> int:
    """The server's clock."""
    return int(warehouse.rows(named("server_now"))[0][0])


def changed_creators(warehouse: Warehouse, month: int, since_ms: int) -> set[str]:
    """Creators whose counts were stored since a moment of the server's clock."""
    rows = warehouse.rows(named("changed_creators"), {"month": month, "since_ms": since_ms})
    return {creator_id for (creator_id,) in rows}
