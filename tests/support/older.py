"""A database as an older version made it: its migrations and no newer ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.stack.embedded import EmbeddedWarehouse
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrations

_LEDGER = (
    "CREATE TABLE migrations (number UInt16, name String, sha256 String, applied_at DateTime64(3, 'UTC') "
    "DEFAULT now64(3)) ENGINE = ReplacingMergeTree ORDER BY number"
)


@contextmanager
def database_at(server: EmbeddedWarehouse, name: str, newest: int) -> Iterator[Warehouse]:
    """A database of that name with the migrations up to that number; it is dropped in the end."""
    everywhere = Warehouse(server.url)
    everywhere.command(f"CREATE DATABASE {name}")
    warehouse = Warehouse(f"{server.url}/{name}")
    try:
        warehouse.command(_LEDGER)
        for migration in migrations():
            if migration.number <= newest:
                for statement in migration.statements():
                    warehouse.command(statement)
                warehouse.insert(
                    "migrations",
                    {"number": [migration.number], "name": [migration.name], "sha256": [migration.sha256]},
                )
        yield warehouse
    finally:
        everywhere.command(f"DROP DATABASE {name} SYNC")
        warehouse.close()
        everywhere.close()
