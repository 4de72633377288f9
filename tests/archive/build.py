"""Three closed months with rows in every table that an archive takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.payout.build import Flattr, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from warehouse.archive.tables import TABLES
from warehouse.quarantine import desk
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

BEFORE, MONTH, AFTER = 202609, 202610, 202611
ALL = (BEFORE, MONTH, AFTER)


def fill(warehouse: Warehouse, closer: Warehouse | None = None) -> None:
    """Close three months; the one in the middle is for the archive."""
    for month in ALL:
        state_month(
            warehouse,
            month,
            [
                *flattrs_of("mia ada 3\nmia bob 1\nnil bob 4\nnil cät 2\nrob eve 5"),
                Flattr("mia", "dan", "d", undone=True),
                Flattr("mia", "eve", "e", undone=True, clicked=False),
            ],
            duplicates=3,
        )
        pledge(warehouse, month, {"mia": 2_000_000, "nil": 3_330_000, "rob": 2_000_000, "oda": 2_000_000})
        _labels(warehouse, month)
        rob = Subject.of(member_id="rob", creator_id="", thing_id="", site_id="")
        desk.flag(warehouse, month, rob, reason="no person", by="eve", clock=lambda: 1_790_000_000_000)
        close(closer or warehouse, month)


def _labels(warehouse: Warehouse, month: int) -> None:
    for table, count in (("duplicates", 3), ("undos", 2)):
        rows: Mapping[str, list[Any]] = {
            "month": [month] * count,
            "partition": [0, 1, 0][:count],
            "position": [7, 8, 9][:count],
            "click_id": [bytes([n]) * 16 for n in (1, 2, 3)][:count],
            "member_id": ["mia", "nil", "mia"][:count],
            "thing_id": [b"\0" * 16, b"\xff" * 15 + b"\0", b"\x80" * 16][:count],
        }
        warehouse.insert(table, rows)
    warehouse.insert(
        "retimed",
        {"month": [month], "partition": [2], "click_key": [b"\x01" * 16], "position": [1 << 63], "word": [5]},
    )
    warehouse.insert(
        "restated_counts",
        {
            "month": [month], "counts": ["by_member"], "member_id": ["mia"], "creator_id": ["ada"],
            "thing_id": [bytes(16)], "partition": [0], "stated": [9], "flattrs": [3], "position": [1],
        },
    )  # fmt: skip


def rows(warehouse: Warehouse, month: int = MONTH) -> dict[str, list[Any]]:
    """Every row of a month in the tables that leave with it, in bytes that do not hang on how parts are merged."""
    return {
        table: warehouse.rows(f"SELECT * FROM {table} {'FINAL' * merged} WHERE month = {month} ORDER BY ALL")
        for table, merged in TABLES.items()
    }


def books(warehouse: Warehouse) -> list[Any]:
    """What stays, whatever is archived."""
    tables = ("pools", "payouts", "ledger", "pledges", "late", "progress", "quarantine_log", "quarantine_versions")
    stated = [warehouse.rows(f"SELECT * FROM {table} ORDER BY ALL") for table in tables]
    return [*stated, warehouse.rows("SELECT month, seal, previous, proof FROM seals FINAL ORDER BY month")]
