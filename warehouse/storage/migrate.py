"""Numbered, forward-only migrations: ``schema/NNNN_name.sql``, each applied once, in order.

After a crash between two statements the whole file runs again, so every statement is idempotent (IF NOT EXISTS,
IF EXISTS). A file that changed after it was applied is an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from typing import Final

from warehouse.storage import cluster_schema
from warehouse.storage.backup import check_finished
from warehouse.storage.client import Warehouse, columns_of
from warehouse.storage.errors import MigrationError
from warehouse.storage.identity_key import make_identity_key

_LEDGER = """
CREATE TABLE IF NOT EXISTS migrations
(number UInt16, name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
ENGINE = ReplacingMergeTree ORDER BY number
"""
#: What a migration does after its statements and cannot do in SQL. Must be idempotent and safe to run concurrently.
_BEHIND: Final[dict[int, Callable[[Warehouse], None]]] = {90: make_identity_key}


@dataclass(frozen=True)
class Migration:
    """One file of ``schema/``."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Hash of the file, which reveals a change after it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def statements(self) -> Iterator[str]:
        """Yield the statements without comments; ClickHouse takes one at a time."""
        bare = re.sub(r"--[^\n]*", "", self.sql)
        return (text.strip() for text in bare.split(";") if text.strip())


def migrations() -> list[Migration]:
    """All migrations that this version knows, in order."""
    files = (resources.files("warehouse.storage") / "schema").iterdir()
    found = sorted((file.name, file.read_text()) for file in files if file.name.endswith(".sql"))
    return [Migration(int(name[:4]), name.removesuffix(".sql"), sql) for name, sql in found]


def migrate(warehouse: Warehouse) -> list[Migration]:
    """Bring the database to this version, creating it if needed. Returns the migrations applied.

    On a cluster every node is brought there, and all must answer. Raises ``MigrationError`` when an applied file has
    changed or the database is newer than the code.
    """
    if not warehouse.topology.cluster:
        return _migrate_server(warehouse)
    with cluster_schema.prepared(warehouse, _migrate_server) as schema:
        # A new disk's ledger is empty until it has caught up: every migration would be noted anew, with a second key.
        warehouse.sync("migrations")
        pending = not_applied(warehouse)
        schema.apply([migration.statements() for migration in pending], is_new=len(pending) == len(migrations()))
        _note(warehouse, pending)
    return pending


def _migrate_server(warehouse: Warehouse) -> list[Migration]:
    _create_database(warehouse)
    check_finished(warehouse, warehouse.database)
    warehouse.command(_LEDGER)
    pending = not_applied(warehouse)
    for migration in pending:
        for statement in migration.statements():
            warehouse.command(statement)
        _note(warehouse, [migration])
    return pending


def not_applied(warehouse: Warehouse) -> list[Migration]:
    """Migrations that the database still needs. Raises ``MigrationError`` as ``migrate`` does."""
    applied: dict[int, str] = dict(warehouse.rows("SELECT number, sha256 FROM migrations FINAL"))
    known = migrations()
    newest = max(applied, default=0)
    if newest > known[-1].number:
        raise MigrationError(
            f"The database is at migration {newest:04}, but this version of flattr knows only up to "
            f"{known[-1].number:04}: install a newer flattr."
        )
    pending = []
    for migration in known:
        sha = applied.get(migration.number)
        if sha is None:
            pending.append(migration)
        elif sha != migration.sha256:
            raise MigrationError(
                f"{migration.name}.sql was changed after it was applied: restore the file and put the change into a "
                "new migration."
            )
    return pending


def _note(warehouse: Warehouse, applied: list[Migration]) -> None:
    """After the statements of migrations: what they cannot do in SQL, and that they are applied."""
    for migration in applied:
        behind = _BEHIND.get(migration.number)
        if behind is not None:
            behind(warehouse)
    if applied:
        warehouse.insert("migrations", columns_of(applied, "number", "name", "sha256"))


def _create_database(warehouse: Warehouse) -> None:
    if warehouse.database == "default":
        return
    topology = warehouse.topology.server(warehouse.topology.nodes[0], "default")
    with closing(Warehouse(warehouse.url, topology=topology)) as server:
        server.command(f"CREATE DATABASE IF NOT EXISTS {warehouse.database}")
