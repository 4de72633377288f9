from __future__ import annotations

import pytest

from deploy.stack.embedded import EmbeddedWarehouse
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import MigrationError
from warehouse.storage.migrate import migrate, migrations


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
    with pytest.raises(MigrationError, match="install a newer flattr"):
        migrate(warehouse)


def test_numbers_are_unique_and_sorted() -> None:
    numbers = [migration.number for migration in migrations()]
    assert numbers == sorted(set(numbers))


def test_counts_are_all_there_after_a_crash_between_any_two_steps_of_their_copying(
    warehouse_server: EmbeddedWarehouse,
) -> None:
    known = migrations()
    copying = next(migration for migration in known if migration.name == "0060_fine_counts")
    warehouse = Warehouse(f"{warehouse_server.url}/copied")
    server_wide = Warehouse(warehouse_server.url)
    server_wide.command("CREATE DATABASE copied")
    for migration in known[: known.index(copying)]:
        for statement in migration.statements():
            warehouse.command(statement)
    for position in (7, 9, 8):
        values = f"202611, 'anna', toFixedString('0123456789abcdef', 16), 3, {position}, {position}"
        warehouse.command(
            f"INSERT INTO counts_by_thing (month, creator_id, thing_id, partition, flattrs, position) SELECT {values}"
        )
        warehouse.command(
            f"INSERT INTO counts_by_creator (month, creator_id, partition, flattrs, position) "
            f"SELECT 202611, 'anna', 3, {position}, {position}"
        )
        warehouse.command(
            f"INSERT INTO counts_by_member (month, member_id, creator_id, flattrs, position) "
            f"SELECT 202611, 'm', 'anna', {position}, {position}"
        )
    steps = list(copying.statements())
    for done in range(len(steps) + 1):
        for statement in [*steps[:done], *steps]:
            warehouse.command(statement)
        for table in ("counts_by_creator", "counts_by_thing", "counts_by_member"):
            assert warehouse.rows(f"SELECT flattrs, position FROM {table} FINAL") == [(9, 9)], (table, done)
    made = warehouse.rows("SELECT name, create_table_query FROM system.tables WHERE database = 'copied'")
    counts = {name: query for name, query in made if name.startswith("counts_by_")}
    assert counts.keys() == {"counts_by_creator", "counts_by_thing", "counts_by_member"}
    assert all("index_granularity = 1024" in query for query in counts.values())
    assert all("by_change" in counts[name] for name in ("counts_by_creator", "counts_by_thing"))
    server_wide.command("DROP DATABASE copied SYNC")
    server_wide.close()
    warehouse.close()


def test_tables_that_every_flush_writes_have_no_statistics(warehouse: Warehouse) -> None:
    written = {
        "counts_by_creator": "position", "counts_by_thing": "position", "counts_by_member": "position",
        "duplicates": "position", "undos": "position", "retimed": "position", "things": "creator_id",
        "progress": "position", "log_ends": "end_position",
    }  # fmt: skip
    for table, column in written.items():
        for value in (1, 2):
            warehouse.command(f"INSERT INTO {table} ({column}) SELECT toString({value})")
        warehouse.command(f"OPTIMIZE TABLE {table} FINAL")
    found = warehouse.rows(
        "SELECT DISTINCT table, statistics FROM system.parts_columns "
        "WHERE active AND database = currentDatabase() AND table IN %(tables)s ORDER BY table",
        {"tables": tuple(written)},
    )
    assert found == [(table, []) for table in sorted(written)]
