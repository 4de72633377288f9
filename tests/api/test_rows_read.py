"""Each read touches a bounded number of rows, by the server's own estimate over its indexes (EXPLAIN ESTIMATE)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Migrated
from warehouse.storage.client import Warehouse, named
from warehouse.storage.literals import FixedBytes

GRANULE = 8192


@pytest.fixture(scope="module")
def filled(migrated: Migrated) -> Iterator[Warehouse]:
    """A month of 800,000 flattrs and counts, wide enough that a scan shows."""
    with migrated("filled") as warehouse:
        fill(warehouse)
        yield warehouse


def fill(warehouse: Warehouse) -> None:
    member, creator = "concat('m', toString(number % 40000))", "concat('c', toString(number % 20000))"
    thing = "MD5(toString(number % 60000))"
    for statement in (
        (
            f"INSERT INTO counts_by_creator (month, creator_id, partition, flattrs, position) "
            f"SELECT 202611, {creator}, intDiv(number, 20000), number, number FROM numbers(240000)"
        ),
        (
            f"INSERT INTO counts_by_thing (month, creator_id, thing_id, partition, flattrs, position) "
            f"SELECT 202611, {creator}, {thing}, intDiv(number, 60000), number, number FROM numbers(240000)"
        ),
        (
            f"INSERT INTO counts_by_member (month, member_id, creator_id, flattrs, position) "
            f"SELECT 202611, {member}, {creator}, number, number FROM numbers(400000)"
        ),
        f"INSERT INTO things (thing_id, creator_id, thing) SELECT {thing}, {creator}, 'x' FROM numbers(60000)",
        (
            f"INSERT INTO flattrs (month, member_id, creator_id, thing_id, first_position, position, version, "
            f"click_id, site_id, clicked_at) SELECT 202611, {member}, {creator}, MD5(toString(number)), number, "
            f"number, number, MD5(toString(number)), '', "
            f"toDateTime64('2026-11-05 00:00:00', 3, 'UTC') FROM numbers(800000)"
        ),
        (
            f"INSERT INTO duplicates (month, partition, position, click_id, member_id, thing_id) "
            f"SELECT 202611, number % 12, number, MD5(toString(number)), {member}, {thing} FROM numbers(400000)"
        ),
    ):
        warehouse.command(statement)


A_THING = "c4ca4238a0b923820dcc509a6f75849b"  # MD5 of 1
A_CLICK = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"
AFTER = {"limit": 10, "after_month": 2**32 - 1, "after_ms": 2**62, "after_id": ""}
PAGE = {"limit": 10, "after_flattrs": 2**63, "after_id": ""}


@pytest.mark.parametrize(
    ("query", "params", "granules"),
    [
        ("things", {"thing_ids": (FixedBytes(A_THING),)}, {"things": 4}),
        ("creators_by_prefix", {"prefix": "c777", "after_id": "", "limit": 10}, {"counts_by_creator": 4}),
        (
            "member_standings",
            {"months": (202611,), "of_months": [202611], "members": ["m1"], "thing_ids": [A_THING]},
            {"flattrs": 4, "things": 4},
        ),
        ("member_flattrs", {"member_id": "m7", "since": 202611, "until": 202611, **AFTER}, {"flattrs": 6, "things": 6}),
        ("member_flattrs", {"member_id": "m7", "since": 0, "until": 300000, **AFTER}, {"flattrs": 6, "things": 6}),
        (
            "member_export",
            {"member_id": "m7", "after_month": 0, "after_creator": "", "after_id": "0" * 32, "limit": 10},
            {"flattrs": 6, "things": 6},
        ),
        ("member_counts", {"member_ids": ("m7",)}, {"counts_by_member": 4}),
        ("member_rows", {"member_ids": ("m7",), "limit": 2000}, {"counts_by_member": 4}),
        ("member_creators", {"member_id": "m7", **PAGE}, {"counts_by_member": 4}),
        ("thing_counts", {"thing_ids": (FixedBytes(A_THING),)}, {"counts_by_thing": 4}),
        ("thing_rows", {"thing_ids": (FixedBytes(A_THING),)}, {"counts_by_thing": 4}),
        ("creator_counts", {"creator_ids": ("c7", "c9")}, {"counts_by_creator": 8}),
        ("creator_rows", {"creator_ids": ("c7", "c9")}, {"counts_by_creator": 8}),
        ("creator_series", {"creator_id": "c7"}, {"flattrs": 6}),
        ("thing_series", {"creator_id": "c7", "thing_id": A_THING}, {"flattrs": 6}),
        ("creator_things", {"creator_id": "c7", **PAGE}, {"flattrs": 12, "things": 12}),
        ("counted_click", {"member_id": "m7", "thing_id": A_THING}, {"flattrs": 6}),
        ("receipt", {"click_id": A_CLICK, "months": (202610, 202611)}, {"flattrs": 12, "duplicates": 6}),
        ("changed_creators", {"since_ms": 4_000_000_000_000}, {}),
    ],
)
def test_query_reads_a_bounded_number_of_rows(
    filled: Warehouse, query: str, params: dict[str, Any], granules: dict[str, int]
) -> None:
    text = named(query)
    rows = filled.rows(f"EXPLAIN ESTIMATE {text}", {"month": 202611, **params})
    read = {table: int(count) for _, table, _, count, _ in rows if int(count)}
    assert read.keys() <= granules.keys(), f"{query} reads {read}"
    for table, count in read.items():
        assert count <= granules[table] * GRANULE, f"{query} reads {count} rows of {table}"


def test_estimate_would_show_a_scan(filled: Warehouse) -> None:
    """The proof of the test above: without its key, the same question reads the whole month."""
    scan = "EXPLAIN ESTIMATE SELECT sum(flattrs) FROM counts_by_creator WHERE flattrs = 7"
    assert filled.rows(scan)[0][3] > 200_000


def test_creators_series_comes_from_the_projection(filled: Warehouse) -> None:
    plan = filled.rows(f"EXPLAIN {named('creator_series')}", {"month": 202611, "creator_id": "c7"})
    assert any("by_creator" in str(line) for (line,) in plan)
