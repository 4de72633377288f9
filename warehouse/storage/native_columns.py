"""Columns that already have the server's binary layout and go over the wire unchanged.

The driver takes a column as a list of Python objects and packs them one by one. For a caller that already has the
packed bytes, creating those objects would cost more than the rest of the insert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_driver import Client
from clickhouse_driver.block import BlockInfo, ColumnOrientedBlock
from clickhouse_driver.connection import Connection
from clickhouse_driver.defines import DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint8

#: On the wire such a column looks like one of the type it names.
_AGGREGATE: Final = re.compile(r"SimpleAggregateFunction\(\w+, (.+)\)")


@dataclass(frozen=True, slots=True)
class Packed:
    """A column of ``rows`` values of the ClickHouse type ``kind``, in the Native format, little-endian.

    Numbers and FixedStrings are contiguous; each String is preceded by its length as unsigned LEB128.
    """

    kind: str
    rows: int
    data: bytes

    def __len__(self) -> int:
        return self.rows


Column = Sequence[Any] | Packed


class _Connection(Connection):  # type: ignore[misc]  # the driver has no types
    """The driver's connection, extended not to wait for a greeting as long as for the answer to a query.

    The kernel takes connections to a server that stands still.
    """

    def receive_hello(self) -> None:
        """Override: the driver calls this once it is connected."""
        with self.timeout_setter(self.sync_request_timeout):
            super().receive_hello()


class PackingClient(Client):  # type: ignore[misc]  # the driver has no types
    """The driver's client, extended to insert packed columns as one block. Columns must be all packed or all lists."""

    def __init__(self, *, settings: Mapping[str, Any], **connection: Any) -> None:  # noqa: ANN401 - the driver's
        super().__init__(settings=settings, **connection)
        self.connections.append(_Connection(**connection))
        self.connection: Connection = self.get_connection()
        self.connections.clear()

    def send_data(self, sample_block: ColumnOrientedBlock, data: Sequence[Column], **options: Any) -> int:  # noqa: ANN401 - the driver's
        """Override: the driver calls this once the server has named the columns it expects."""
        if not any(isinstance(column, Packed) for column in data):
            return int(super().send_data(sample_block, data, **options))
        block = ColumnOrientedBlock(sample_block.columns_with_types, _checked(sample_block.columns_with_types, data))
        if block.num_rows:
            _write(self.connection, block)
            self.receive_profile_events()
        self.connection.send_data(ColumnOrientedBlock())  # an empty block ends the insert
        self.receive_profile_events()
        return int(block.num_rows)


def _checked(awaited: Sequence[tuple[str, str]], columns: Sequence[Column]) -> Sequence[Packed]:
    """Check the types: the server would silently misread bytes of another type."""
    for (name, kind), column in zip(awaited, columns, strict=True):
        aggregate = _AGGREGATE.fullmatch(kind)
        if not isinstance(column, Packed) or column.kind != (aggregate[1] if aggregate else kind):
            given = column.kind if isinstance(column, Packed) else "not packed"
            raise TypeError(f"column {name} is {kind}, but the inserted column is {given}")
    return [column for column in columns if isinstance(column, Packed)]


def _write(connection: Connection, block: ColumnOrientedBlock) -> None:
    """Send a block as the driver's streams/native.py does, but write the columns' bytes as they are."""
    out = connection.fout
    write_varint(ClientPacketTypes.DATA, out)
    write_binary_str("", out)  # no temporary table
    BlockInfo().write(out)
    write_varint(block.num_columns, out)
    write_varint(block.num_rows, out)
    for (name, kind), column in zip(block.columns_with_types, block.get_columns(), strict=True):
        write_binary_str(name, out)
        write_binary_str(kind, out)
        if connection.server_info.used_revision >= DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION:
            write_binary_uint8(0, out)  # no custom serialization
        out.write(column.data)
    out.flush()
