"""Refused input is forgotten in time, what the books speak of is not, and what was replayed leaves the list."""

from __future__ import annotations

from warehouse.counts.rejections import RejectedId, mark_replayed, rejected
from warehouse.storage.client import Warehouse


def keep(warehouse: Warehouse, topic: str, position: int, days_ago: int) -> RejectedId:
    warehouse.command(
        "INSERT INTO rejected (month, topic, partition, position, rejected_at, reason, detail, raw, stored_at) "
        f"SELECT 202511, '{topic}', 0, {position}, '2025-11-22 08:00:00', 'field_unknown', '', '{{}}', "
        f"now() - INTERVAL {days_ago} DAY"
    )
    return RejectedId(topic, 0, position)


def test_refused_input_goes_after_ninety_days_and_what_the_stream_refused_stays(warehouse: Warehouse) -> None:
    # By when it was stored: the clock of a rehearsal of last year forgets nothing early.
    keep(warehouse, "rejected", 1, 91)
    retained = [keep(warehouse, "rejected", 2, 80), keep(warehouse, "clicks", 3, 900)]
    warehouse.command("OPTIMIZE TABLE rejected FINAL")
    assert {one.id for one in rejected(warehouse)} == set(retained)


def test_replayed_record_leaves_the_list_and_is_found_by_its_id(warehouse: Warehouse) -> None:
    first, second = keep(warehouse, "rejected", 1, 0), keep(warehouse, "rejected", 2, 0)
    for _ in range(2):
        mark_replayed(warehouse, first, 3)
    assert [one.id for one in rejected(warehouse)] == [second]
    assert {one.id for one in rejected(warehouse, replayed=True)} == {first, second}
    (found,) = rejected(warehouse, ids=[first])
    assert found.replayed_at_ms > 0
    assert rejected(warehouse, ids=[second])[0].replayed_at_ms == 0
