"""Brings a backup of one server into a cluster, for whoever outgrew the server.

The backup comes back on the cluster's first node as what it is, one server's database, under another name: the model.
The cluster's tables are made like the model's, and the rows are copied, each to the shard that it belongs to.
``restore.py`` has marked the database as unfinished from before the first step until after the last: whatever dies
costs the restore, which begins again, from the same backup.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any, Final

from warehouse.storage.backup import LIST, REST, WHOLE, Backup, Source, whole
from warehouse.storage.backup_target import BackupRefused, Shard, bring
from warehouse.storage.client import Warehouse
from warehouse.storage.cluster_schema import model_of, on_every_node, schema_like
from warehouse.storage.migrate import migrate
from warehouse.storage.placement import here
from warehouse.storage.topology import Address, Topology

#: A table goes in one statement, however long that takes and however many months it has.
_AT_ONCE: Final[dict[str, Any]] = {"max_execution_time": 0, "max_partitions_per_insert_block": 0}
#: Rows that replace others, or add up, are read as the next merge would leave them.
_MERGED: Final[dict[str, Any]] = {"final": 1}
#: While rows are compared, none may leave because its time has come. A restart of the server ends this, too.
_NONE_LEAVES: Final = "SYSTEM STOP TTL MERGES"


def spread(warehouse: Warehouse, first: Address, source: Source) -> Backup | None:
    """Fill a cluster's empty database, by way of its first node.

    Returns None if there is no whole backup of one server of this name. Raises ``BackupRefused`` if what arrived is
    not what was copied.
    """
    topology, database = warehouse.topology, warehouse.database
    model_name = model_of(database)

    def opened(nodes: Topology) -> Warehouse:
        return Warehouse(warehouse.url, timeout_s=600, topology=nodes)

    with (
        closing(opened(topology.server(first, "default"))) as server,
        closing(opened(topology.server(first, model_name))) as model,
        closing(opened(topology.only(first))) as many,
        schema_like(warehouse, model) as schema,
    ):
        # 1. What the one server had, and what newer migrations make of it.
        server.command(f"CREATE DATABASE {model_name}")
        found = _brought(Shard(server), database, model, source)
        if found is None:
            return None
        migrate(model)
        expiring = _expiring(model)
        for table in sorted(expiring):
            server.command(f"{_NONE_LEAVES} {model_name}.{table}")
        # 2. Every row, where it belongs. `progress` comes last: without that table no worker starts.
        columns = _columns(model)
        last = {table for _, tables in source.stages[:1] for table in tables}
        for tables in (columns.keys() - last, last):
            schema.create(set(tables))
            on_every_node(warehouse, [f"{_NONE_LEAVES} {here(table)}" for table in expiring & tables])
            for table in sorted(tables):
                _copy(table, columns[table], model, many)
                source.after(f"rows of {table}")
        # 3. The views. One writes down what comes into a table, and those rows were copied.
        schema.create(None)
        warehouse.sync()
        source.after("views")
        # 4. The model has done its work. Whose time has come may leave again.
        on_every_node(warehouse, [f"SYSTEM START TTL MERGES {here(table)}" for table in expiring])
        server.command(f"DROP DATABASE {model_name} SYNC")
    return found


def _brought(shard: Shard, database: str, model: Warehouse, source: Source) -> Backup | None:
    """Bring the backup of ``database`` back as the model."""
    of, after = (source.target, source.name), source.after

    def as_model(tables: Iterable[str]) -> list[tuple[Shard, str]]:
        return [(shard, ", ".join(f"TABLE {database}.{table} AS {model.database}.{table}" for table in tables))]

    found = whole(as_model([LIST]), model, source)
    if found is None:
        return None
    after(WHOLE)
    bring([(shard, f"DATABASE {database} AS {model.database}")], *of, REST)
    after(REST)
    for stage, tables in reversed(source.stages):
        bring(as_model(tables), *of, stage)
        after(stage)
    return found


def _columns(model: Warehouse) -> dict[str, str]:
    """What is copied of each table: no column that the server computes from others."""
    rows = model.rows(
        "SELECT table, arrayStringConcat(groupArray(concat('`', name, '`')), ', ') FROM system.columns "
        "WHERE database = currentDatabase() AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') AND table IN "
        "(SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%%MergeTree') "
        "GROUP BY table", {},
    )  # fmt: skip
    return dict(rows)


def _expiring(model: Warehouse) -> set[str]:
    """The tables that rows leave after some time."""
    rows = model.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%%MergeTree' "
        "AND create_table_query LIKE '%% TTL %%'", {},
    )  # fmt: skip
    return {table for (table,) in rows}


def _copy(table: str, columns: str, model: Warehouse, many: Warehouse) -> None:
    """Copy a table's rows; then both sides have the same."""
    many.command(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {model.database}.{table}",  # noqa: S608 - our names
        settings=_AT_ONCE | _MERGED,
    )
    there, arrived = (_sum_of(side, table, columns) for side in (model, many))
    if there != arrived:
        raise BackupRefused(
            f"{table} arrived with {arrived[0]} rows of {there[0]}, or with others: is a service writing into the "
            "cluster? Stop all services and run this again."
        )


def _sum_of(side: Warehouse, table: str, columns: str) -> tuple[int, int]:
    """How many rows, and a sum of their hashes that knows no order."""
    settings = _AT_ONCE | _MERGED
    ((rows, hashes),) = side.rows(f"SELECT count(), sum(cityHash64({columns})) FROM {table}", {}, settings)  # noqa: S608 - our names
    return int(rows), int(hashes)
