"""Typed functions over ``sql/*.sql`` for the read API. They block: call them from a worker thread."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ingest.contract.thing import canonical
from warehouse.storage.client import Row, Warehouse, named
from warehouse.storage.literals import FixedBytes

N = TypeVar("N")
#: (month, id)
Key = tuple[int, str]

#: For queries that read a few granules: spreading those over threads costs the server half as much again.
ONE_THREAD: Final = {"max_threads": 1}
#: For counts by key: what PREWHERE would spare of these narrow granules is less than what it costs.
LOOK_UP: Final = {"optimize_move_to_prewhere": 0}
_FEW: Final = 100
#: For so many names the newest rows are chosen here, which costs the server a sixth less than aggregating; of more it
#: would hold up everybody else.
_CHOSEN_HERE: Final = 30
#: A creator or thing has a row of each partition in each data part at most. A member has any number: so many are taken.
_ROWS_MAX: Final = 2000


@dataclass(frozen=True)
class Thing:
    """What a thing id stands for; ``thing`` is its canonical address, or its id."""

    creator_id: str
    thing: str


@dataclass(frozen=True, slots=True)
class Count:
    """Active flattrs outside quarantine, and those in quarantine."""

    flattrs: int
    quarantined: int = 0


@dataclass(frozen=True)
class MemberCount:
    """A member's month: flattrs, the number of creators they go to, and flattrs in quarantine."""

    flattrs: int
    creators: int
    quarantined: int = 0


def shown(thing: str) -> str:
    """A thing's address in canonical form, or empty when it has none.

    The table holds the address as the first click sent it, which may include a user name, a tracking parameter or
    control characters that reverse the text.
    """
    try:
        return canonical(thing)
    except ValueError:
        return ""


def things(warehouse: Warehouse, thing_ids: Sequence[str]) -> dict[str, Thing | None]:
    """Creator and address of things: one entry per id, None when nobody ever flattred it."""
    if not thing_ids:
        return {}
    least: dict[str, tuple[str, str]] = {}
    for thing_id, creator_id, thing in warehouse.rows(named("things"), _of_things(thing_ids), _threads(thing_ids)):
        other_creator, other_thing = least.get(thing_id, (creator_id, thing))
        least[thing_id] = min(creator_id, other_creator), min(thing, other_thing)
    found = {thing_id: Thing(creator_id, shown(thing)) for thing_id, (creator_id, thing) in least.items()}
    return {**dict.fromkeys(thing_ids), **found}


def thing_counts(warehouse: Warehouse, month: int, thing_ids: Sequence[str], flagged: int = 1) -> dict[str, Count]:
    """Flattrs of things (ids of 32 hexadecimal digits) in a month: one entry per id, 0 included.

    ``flagged`` is 0 when the month is known to have no quarantine, which saves a query.
    """
    if not thing_ids:
        return {}
    query = "thing_rows" if len(thing_ids) <= _CHOSEN_HERE else "thing_counts"
    stated = _stated(warehouse, query, thing_ids, {"month": month, **_of_things(thing_ids)})
    held = _things_held(warehouse, [month], thing_ids) if flagged else {}
    return _less(thing_ids, stated, {thing_id: count for (_, thing_id), count in held.items()})


def thing_counts_of_months(
    warehouse: Warehouse, keys: Sequence[Key], flagged: Collection[int] = ()
) -> dict[Key, Count]:
    """Flattrs of things, each in its own month; ``flagged`` are the months that have a quarantine."""
    stated = _by_key(warehouse.rows(named("thing_counts_of_months"), _pairs(keys), _threads(keys)))
    held_of = [key for key in keys if key[0] in flagged]
    held = _things_held(warehouse, _months(held_of), [name for _, name in held_of]) if held_of else {}
    return _less(keys, stated, held)


def _things_held(warehouse: Warehouse, months: Sequence[int], thing_ids: Sequence[str]) -> dict[Key, int]:
    params = {"months": tuple(months), "thing_ids": list(thing_ids)}
    return _by_key(warehouse.rows(named("thing_quarantined"), params))


def member_counts(
    warehouse: Warehouse, month: int, member_ids: Sequence[str], flagged: int = 1
) -> dict[str, MemberCount]:
    """Flattrs of members in a month: one entry per id. ``flagged`` as in ``thing_counts``."""
    params = {"month": month, "member_ids": tuple(member_ids)}
    query = named("member_counts_quarantined" if flagged else "member_counts")
    rows = warehouse.rows(query, params, _threads(member_ids) if flagged else _look_up(member_ids))
    found = {member_id: MemberCount(*map(int, counts)) for member_id, *counts in rows}
    return {**dict.fromkeys(member_ids, MemberCount(0, 0)), **found}


def member_counts_of_months(
    warehouse: Warehouse, keys: Sequence[Key], flagged: Collection[int] = ()
) -> dict[Key, MemberCount]:
    """Flattrs of members, each in its own month; ``flagged`` as in ``thing_counts_of_months``."""
    query = less_quarantined("member_counts_of_months", any(month in flagged for month, _ in keys))
    rows = warehouse.rows(query, _pairs(keys), _threads(keys))
    found = {(int(month), member_id): MemberCount(*map(int, counts)) for month, member_id, *counts in rows}
    return {**dict.fromkeys(keys, MemberCount(0, 0)), **found}


def creator_counts(warehouse: Warehouse, month: int, creator_ids: Sequence[str], flagged: int = 1) -> dict[str, Count]:
    """Flattrs of creators in a month, 0 included; ``flagged`` as in ``thing_counts``."""
    if not creator_ids:
        return {}
    query = "creator_rows" if len(creator_ids) <= _CHOSEN_HERE else "creator_counts"
    stated = _stated(warehouse, query, creator_ids, {"month": month, "creator_ids": tuple(creator_ids)})
    held = _creators_held(warehouse, [month], creator_ids) if flagged else {}
    return _less(creator_ids, stated, {creator_id: count for (_, creator_id), count in held.items()})


def creator_counts_of_months(
    warehouse: Warehouse, keys: Sequence[Key], flagged: Collection[int] = ()
) -> dict[Key, Count]:
    """Flattrs of creators, each in its own month; ``flagged`` as in ``thing_counts_of_months``."""
    stated = _by_key(warehouse.rows(named("creator_counts_of_months"), _pairs(keys), _threads(keys)))
    held_of = [key for key in keys if key[0] in flagged]
    held = _creators_held(warehouse, _months(held_of), [name for _, name in held_of]) if held_of else {}
    return _less(keys, stated, held)


def _creators_held(warehouse: Warehouse, months: Sequence[int], creator_ids: Sequence[str]) -> dict[Key, int]:
    params = {"months": tuple(months), "creator_ids": tuple(creator_ids)}
    return _by_key(warehouse.rows(named("creator_quarantined"), params))


def _of_things(thing_ids: Sequence[str]) -> dict[str, Any]:
    return {"thing_ids": tuple(map(FixedBytes, thing_ids))}


def _stated(warehouse: Warehouse, query: str, ids: Sequence[str], params: Mapping[str, Any]) -> dict[str, int]:
    """Flattrs of creators or things in a month, those in quarantine included, of those that have any."""
    rows = warehouse.rows(named(query), params, _look_up(ids))
    if len(ids) > _CHOSEN_HERE:
        return dict(rows)
    stated: dict[str, int] = {}
    for (name, _), (_, flattrs) in _newest(rows).items():
        stated[name] = stated.get(name, 0) + flattrs
    return stated


def _newest(rows: Iterable[Row]) -> dict[tuple[str, object], tuple[int, int]]:
    """Position and flattrs by name and what a name's rows are divided by, of rows as they lie in the table."""
    newest: dict[tuple[str, object], tuple[int, int]] = {}
    for name, divided_by, position, flattrs in rows:
        key = name, divided_by
        if key not in newest or newest[key][0] < position:
            newest[key] = position, flattrs
    return newest


def _few_members(warehouse: Warehouse, params: Mapping[str, Any]) -> dict[str, MemberCount] | None:
    """Counts of members who have any; None when they have too many rows to choose from here."""
    rows = warehouse.rows(named("member_rows"), {**params, "limit": _ROWS_MAX}, _look_up(()))
    if len(rows) == _ROWS_MAX:
        return None
    found: dict[str, MemberCount] = {}
    for (name, _), (_, flattrs) in _newest(rows).items():
        so_far = found.get(name, MemberCount(0, 0))
        found[name] = MemberCount(so_far.flattrs + flattrs, so_far.creators + (flattrs > 0))
    return found


def _pairs(keys: Sequence[Key]) -> dict[str, Any]:
    of_months = [month for month, _ in keys]
    return {"months": tuple(set(of_months)), "of_months": of_months, "ids": [name for _, name in keys]}


def _months(keys: Iterable[Key]) -> list[int]:
    return sorted({month for month, _ in keys})


def _by_key(rows: Iterable[Row]) -> dict[Key, int]:
    return {(int(month), name): int(count) for month, name, count in rows}


def _threads(ids: Sequence[object]) -> Mapping[str, Any] | None:
    return ONE_THREAD if len(ids) <= _FEW else None


def _look_up(ids: Sequence[object]) -> Mapping[str, Any]:
    return {**LOOK_UP, **(_threads(ids) or {})}


def _less(ids: Sequence[N], stated: Mapping[N, int], held: Mapping[N, int]) -> dict[N, Count]:
    """Subtract the quarantine. A flattr is written before its count, so the difference can briefly be negative."""
    return {
        name: Count(max(0, int(stated.get(name, 0)) - int(held.get(name, 0))), int(held.get(name, 0))) for name in ids
    }


@functools.cache
def _plain(query: str) -> str:
    return re.sub(r"^ *-- quarantine\n.*?^ *-- end\n", "", named(query), flags=re.MULTILINE | re.DOTALL)


def less_quarantined(query: str, flagged: int) -> str:
    """A named query, without its ``-- quarantine`` section when ``flagged`` is 0, as in ``thing_counts``."""
    return named(query) if flagged else _plain(query)


def quarantine_versions(warehouse: Warehouse) -> dict[int, int]:
    """The newest version of each month's quarantine, for months in which anything was ever flagged."""
    return {
        int(month): int(version) for month, version in warehouse.rows(named("quarantine_versions"), settings=ONE_THREAD)
    }


def known_months(warehouse: Warehouse) -> frozenset[int]:
    """Months for which the warehouse has any rows."""
    return frozenset(int(month) for (month,) in warehouse.rows(named("known_months"), settings=ONE_THREAD))


def server_now_ms(warehouse: Warehouse) -> int:
    """The server's clock, in ms."""
    return int(warehouse.rows(named("server_now"))[0][0])


def changed_creators(warehouse: Warehouse, month: int, since_ms: int) -> set[str]:
    """Creators whose counts were written since ``since_ms`` by the server's clock."""
    rows = warehouse.rows(named("changed_creators"), {"month": month, "since_ms": since_ms})
    return {creator_id for (creator_id,) in rows}
