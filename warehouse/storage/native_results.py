"""Results taken from the wire as they lie there: whole columns instead of rows, and bytes instead of objects."""

from __future__ import annotations

from collections.abc import Sequence
from socket import socket
from typing import Any

from clickhouse_driver import defines
from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.connection import Connection
from clickhouse_driver.result import IterQueryResult


class Blocks(IterQueryResult):  # type: ignore[misc]  # the driver has no types
    """The driver's iterator over packets, yielding each block's columns instead of its rows."""

    def __next__(self) -> list[list[Sequence[Any]]]:
        block = getattr(next(self.packet_generator), "block", None)
        return [block.get_columns()] if block is not None and block.num_rows else []


class _Unseparated(BufferedSocketReader):  # type: ignore[misc]  # the driver has no types
    """The driver's reader, without an object per FixedString: those took a third of a worker's recovery time."""

    def __init__(self, connected: socket, buffer_bytes: int) -> None:
        super().__init__(connected, buffer_bytes)
        self._socket = connected

    def read_fixed_strings(self, rows: int, length: int) -> list[bytearray]:
        column = bytearray(rows * length)
        rest = memoryview(column)
        held = min(len(rest), self.current_buffer_size - self.position)
        rest[:held] = self.read(held)
        rest = rest[held:]
        # The rest is received straight into the column, bypassing the reader's buffer.
        while rest:
            received = self._socket.recv_into(rest)
            if not received:
                raise EOFError("the server closed the connection in the middle of a column")
            rest = rest[received:]
        return [column]


def unseparated(connection: Connection) -> None:
    """Connect, and have the driver return each block of a FixedString column in one piece."""
    connection.connect()
    # Only the server's hello has been read so far, so the replaced reader's buffer is empty.
    reader = _Unseparated(connection.socket, defines.BUFFER_SIZE)
    connection.fin = connection.block_in.fin = connection.block_in_raw.fin = reader
