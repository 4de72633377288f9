from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Migrated
from tests.payout.build import Flattr, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse

MONTH = 202611


@pytest.fixture(scope="module")
def closed(migrated: Migrated) -> Iterator[Warehouse]:
    """A closed month with a bit of everything, and the one before it. Tests leave it as it was."""
    with migrated("test_verify") as warehouse:
        close_two_months(warehouse)
        yield warehouse


def close_two_months(warehouse: Warehouse) -> None:
    state_month(warehouse, 202610, flattrs_of("mia ada 3\nnil bob 1"))
    pledge(warehouse, 202610, {"mia": 2_000_000, "nil": 3_330_000})
    close(warehouse, 202610)
    state_month(
        warehouse,
        MONTH,
        [
            *flattrs_of("mia ada 1\nmia bob 1\nmia cät 1\nnil ada 3\nnil bob 4\nnix bob 1"),
            Flattr("mia", "dan", "d", undone=True),
            Flattr("mia", "eve", "e", undone=True, clicked=False),
        ],
        duplicates=3,
    )
    pledge(warehouse, MONTH, {"mia": 2_000_000, "nil": 5_550_000, "nix": 2_000_000, "oda": 2_000_000}, unpaid=["nix"])
    close(warehouse)


@contextmanager
def tampered(warehouse: Warehouse, table: str, change: str) -> Iterator[None]:
    """Change a table, and put it back at the end."""
    warehouse.command(f"CREATE TABLE was AS {table}")
    warehouse.command(f"INSERT INTO was SELECT * FROM {table}")
    warehouse.command(f"ALTER TABLE {table} {change} SETTINGS mutations_sync = 1")
    yield
    warehouse.command(f"EXCHANGE TABLES {table} AND was")
    warehouse.command("DROP TABLE was SYNC")


def test_closed_months_verify_line_by_line_and_hash_by_hash(closed: Warehouse) -> None:
    for month in (202610, MONTH):
        findings = verify_month(closed, month)
        assert findings.problems == []
        assert findings.lines > 0


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        (
            "pools",
            "UPDATE creator_micro = arrayReverse(creator_micro) WHERE member_id = 'nil'",
            "pools: the line nil is",
        ),
        ("pools", "UPDATE fee_micro = 0 WHERE member_id = 'mia'", "pools: the line mia is"),
        ("pools", "DELETE WHERE member_id = 'oda'", "pools: the line oda is missing"),
        ("payouts", "UPDATE paid_micro = paid_micro + 10000 WHERE creator_id = 'bob'", "payouts: the line bob is"),
        ("payouts", "UPDATE payment_id = 'FL-1' WHERE creator_id = 'bob'", "payouts: the line bob is"),
        ("ledger", "UPDATE amount_micro = amount_micro + 1 WHERE kind = 'fee'", "ledger: the line fee"),
        ("ledger", "DELETE WHERE kind = 'pay' AND owner = 'ada'", "ledger: the line pay ada"),
        ("pledges", "UPDATE amount_micro = 9000000 WHERE member_id = 'nil'", "pools: the line nil is"),
        ("flattrs", "DELETE WHERE member_id = 'nil' AND creator_id = 'ada'", "pools: the line nil is"),
        ("seals", "UPDATE seal = 'x' WHERE month = 202611", "seals: the seal of 2026-11 is not the hash"),
        (
            "seals",
            "UPDATE proof = replaceOne(proof, '\"paid_micro\": ', '\"paid_micro\": 1') WHERE month = 202611",
            "seals",
        ),
        ("seals", "UPDATE previous = 'x' WHERE month = 202611", "seals: 2026-11 does not name the seal"),
    ],
)
def test_tampered_table_is_named_with_its_line(closed: Warehouse, table: str, change: str, named: str) -> None:
    where = "" if table == "seals" else " AND month = 202611"
    with tampered(closed, table, change + where):
        problems = verify_month(closed, MONTH).problems
    assert any(problem.startswith(named) for problem in problems), problems


def test_open_month_cannot_be_verified(closed: Warehouse) -> None:
    with pytest.raises(PayoutRefused, match="2026-12 is not closed"):
        verify_month(closed, 202612)
