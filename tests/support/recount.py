"""An oracle that counts clicks from their definition, one at a time, and shares no code with the stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from deploy.proving.oracle.when import When
from ingest.contract.click import Click
from warehouse.storage.client import Warehouse


@dataclass
class Counted:
    """Flattrs by (month, member, creator, thing id) with whether each is active, and the tallies per month."""

    flattrs: dict[tuple[int, str, str, str], bool] = field(default_factory=dict)
    tallies: Counter[tuple[int, str]] = field(default_factory=Counter)

    def counts(self, *parts: int) -> Counter[tuple[object, ...]]:
        """Active flattrs grouped by those parts of the key."""
        return Counter(tuple(key[part] for part in parts) for key, active in self.flattrs.items() if active)


def recount(clicks: Iterable[Click], stamps_ms: Iterable[int] | None = None, *, grace_ms: int = 1 << 40) -> Counted:
    """What the clicks, in the order of the log (of each member), come to; their records are of receipt if not said."""
    clicks = list(clicks)
    counted = Counted()
    when = When(grace_ms)
    seen: set[tuple[int, str, str, str]] = set()
    stamps_ms = [click.received_at for click in clicks] if stamps_ms is None else stamps_ms
    for click, stamp_ms in zip(clicks, stamps_ms, strict=True):
        decision = when.decide(msgspec.structs.asdict(click), stamp_ms)
        key = (decision.month, click.member_id, click.creator_id, click.thing_id)
        if decision.late:
            label = "late"
        elif click.action in {"undo", "unsubscribe"}:
            label = "undo"
        else:
            label = "duplicate" if key in seen else "counted"
            seen.add(key)
        counted.tallies[decision.month, label] += 1
        counted.tallies[decision.month, "accepted"] += 1
        for month, member, thing in decision.keys:
            counted.flattrs[month, member, click.creator_id, thing] = not when.last_word[month, member, thing][1]
    return counted


def stated(warehouse: Warehouse) -> Counted:
    """What the warehouse says."""
    rows = warehouse.rows("SELECT month, member_id, creator_id, lower(hex(thing_id)), active FROM flattrs FINAL")
    counted = Counted({tuple(key): bool(active) for *key, active in rows})
    for month, names, values in warehouse.rows(
        "SELECT m, ['accepted', 'counted', 'duplicate', 'undo', 'rejected', 'late'],"
        " [sum(a), sum(c), sum(d), sum(u), sum(r), sum(l)] FROM progress FINAL ARRAY JOIN tallies.month AS m,"
        " tallies.accepted AS a, tallies.counted AS c, tallies.duplicate AS d, tallies.undo AS u,"
        " tallies.rejected AS r, tallies.late AS l GROUP BY m"
    ):
        counted.tallies.update({(month, name): value for name, value in zip(names, values, strict=True) if value})
    return counted


def assert_counted(warehouse: Warehouse, clicks: Iterable[Click]) -> None:
    """The warehouse's flattrs, tallies and counts are exactly those of the clicks."""
    assert_states(warehouse, recount(clicks))


def assert_states(warehouse: Warehouse, expected: Counted) -> None:
    """The warehouse's flattrs, tallies and counts are exactly these."""
    found = stated(warehouse)
    assert found.flattrs == expected.flattrs
    assert found.tallies == expected.tallies
    for table, columns, parts in (
        ("counts_by_creator", "month, creator_id", (0, 2)),
        ("counts_by_thing", "month, creator_id, lower(hex(thing_id))", (0, 2, 3)),
        ("counts_by_member", "month, member_id, creator_id", (0, 1, 2)),
    ):
        rows = warehouse.rows(f"SELECT {columns}, sum(flattrs) AS n FROM {table} FINAL GROUP BY {columns} HAVING n > 0")
        assert {tuple(key): n for *key, n in rows} == expected.counts(*parts), table
