"""The tables that leave with their month, as Parquet files and back.

A row is written merged, in the order of its table's key, so that a month gives the same lines however its parts lie.
A table's digest is the sum, modulo 2^256, of the SHA-256 of its lines: it finds loss and accident in any order of
rows. Against anybody else stands the hash of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.payout.close.lock import Held
from warehouse.storage.client import Warehouse
from warehouse.storage.cluster_schema import drop_like, make_like
from warehouse.storage.placement import SHARDED, here

#: What nothing but its own month needs, once the next one is closed; and whether its rows have to be merged.
TABLES: Final = {
    "flattrs": True, "counts_by_member": True, "counts_by_creator": True, "counts_by_thing": True, "duplicates": True,
    "undos": True, "retimed": True, "restated_counts": True, "quarantine_set": False,
}  # fmt: skip
_BASE: Final = re.compile(r"SimpleAggregateFunction\(\w+, (.+)\)|LowCardinality\((.+)\)")
_KINDS: Final = {
    "UInt8": pa.uint8(), "UInt16": pa.uint16(), "UInt32": pa.uint32(), "UInt64": pa.uint64(), "String": pa.string(),
    "FixedString(16)": pa.binary(16), "DateTime64(3, 'UTC')": pa.timestamp("ms", "UTC"),
}  # fmt: skip
_TIME: Final = "DateTime64(3, 'UTC')"
#: The driver would take a FixedString for text.
_AS_BYTES: Final = {"strings_as_bytes": True, "max_bytes_before_external_sort": 1_000_000_000}
#: An insert of fewer rows is atomic.
_ROWS_AT_ONCE: Final = 200_000

Columns = list[tuple[str, str]]


@dataclass(frozen=True)
class Content:
    """What a table has of a month: its columns with their types, the number of rows, their digest."""

    columns: Columns
    rows: int
    digest: str


def columns_of(warehouse: Warehouse, table: str) -> Columns:
    """The names and types of the columns that an insert states; what follows from them is left out."""
    rows = warehouse.rows(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = %(table)s "
        "AND default_kind IN ('', 'DEFAULT') ORDER BY position",
        {"table": table},
    )
    return [(name, _base(kind)) for name, kind in rows]


def content(warehouse: Warehouse, table: str, month: int, *, merged: bool, columns: Columns | None = None) -> Content:
    """What a table has of a month, in these columns or all."""
    found = columns_of(warehouse, table) if columns is None else columns
    names = ", ".join(name for name, _ in found)
    ((rows, digest),) = warehouse.rows(
        f"SELECT count(), lower(hex(sum(reinterpretAsUInt256(SHA256(toString(tuple({names}))))))) "  # noqa: S608 - our names
        f"FROM {table} {'FINAL' * merged} WHERE month = %(month)s",
        {"month": month},
    )
    return Content(found, int(rows), str(digest))


def write(warehouse: Warehouse, table: str, month: int, file: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    """Write a table's rows of a month into a file that is open."""
    columns = columns_of(warehouse, table)
    schema = _schema(columns)
    fields = ", ".join(f"toUnixTimestamp64Milli({name})" if kind == _TIME else name for name, kind in columns)
    ((key,),) = warehouse.rows(
        "SELECT sorting_key FROM system.tables WHERE database = currentDatabase() AND name = %(table)s",
        {"table": here(table) if warehouse.topology.cluster else table},
    )
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for block in warehouse.blocks(
            f"SELECT {fields} FROM {table} {'FINAL' * TABLES[table]} WHERE month = %(month)s ORDER BY {key}",  # noqa: S608 - our names
            {"month": month},
            _AS_BYTES,
        ):
            if block:
                arrays = [pa.array(values, field.type) for values, field in zip(block, schema, strict=True)]
                writer.write_table(pa.table(arrays, schema=schema))


def load(warehouse: Warehouse, table: str, columns: Columns, file: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    """Insert a file's rows into a table's staging table."""
    names = [name for name, _ in columns]
    times = {name for name, kind in columns if kind == _TIME}
    for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE, columns=names):
        values = {
            name: (array.cast(pa.int64()) if name in times else array).to_pylist()
            for name, array in zip(names, batch.columns, strict=True)
        }
        warehouse.insert(staging(table), values)


def staging(table: str) -> str:
    """Where a file's rows are looked at before they are trusted."""
    return f"archive_{table}"


def make_staging(warehouse: Warehouse, table: str) -> None:
    """An empty staging table, like its table in everything."""
    drop_staging(warehouse, table)
    make_like(warehouse, table, staging(table))


def drop_staging(warehouse: Warehouse, table: str) -> None:
    """Drop the staging table if there is one."""
    drop_like(warehouse, staging(table))


def replace(held: Held, table: str, month: int) -> None:
    """Have a table's rows of a month be those of its staging table, on each shard in one step."""
    with held.shards() as shards:
        for shard in shards if table in SHARDED else shards[:1]:
            ((rows,),) = shard.rows(f"SELECT count() FROM {staging(table)}")  # noqa: S608 - our names
            # The server refuses to replace a partition by nothing.
            change = f"REPLACE PARTITION %(month)s FROM {staging(table)}" if rows else "DROP PARTITION %(month)s"
            held.check()
            shard.command(f"ALTER TABLE {table} {change}", {"month": month})


def _base(kind: str) -> str:
    found = _BASE.fullmatch(kind)
    return _base(found[1] or found[2]) if found else kind


def _schema(columns: Columns) -> Any:  # noqa: ANN401 - pyarrow has no types
    return pa.schema([pa.field(name, _KINDS[kind], nullable=False) for name, kind in columns])
