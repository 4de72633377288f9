from __future__ import annotations

import pytest

from deploy.local import EmbeddedWarehouse
from warehouse.client import Warehouse
from warehouse.migrate import MigrationError, migrate, migrations


def test_second_migration_applies_nothing(warehouse: Warehouse) -> None:
    assert migrate(warehouse) == []


def test_first_migration_creates_the_database_and_every_table(warehouse_server: EmbeddedWarehouse) -> None:
    fresh = Warehouse(f"{warehouse_server.url}/fresh")
    assert [m.number for m in migrate(fresh)] == [m.number for m in migrations()]
    tables = {name for (name,) in fresh.rows("SELECT name FROM system.tables WHERE database = 'fresh'")}
    fresh.close()
    assert {"flattrs", "counts_by_creator", "progress", "migrations"} <= tables


def test_changed_migration_is_refused(warehouse: Warehouse) -> None:
    warehouse.insert("migrations", {"number": [1], "name": ["0001_counting"], "sha256": ["else"]})
    with pytest.raises(MigrationError, match=r"0001_counting\.sql was changed"):
        migrate(warehouse)


def test_database_newer_than_the_code_is_refused(warehouse: Warehouse) -> None:
    warehouse.insert("migrations", {"number": [9999], "name": ["9999_future"], "sha256": ["x"]})
    with pytest.raises(MigrationError, match="update flattr"):
        migrate(warehouse)


def test_numbers_are_unique_and_sorted() -> None:
    numbers = [migration.number for migration in migrations()]
    assert numbers == sorted(set(numbers))
