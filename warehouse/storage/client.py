"""The adapter to ClickHouse: one driver client per thread, columnar inserts, translated errors.

The driver blocks, so call it from a worker thread, never from an event loop. Neither it nor this module retries:
only the caller knows whether a retry is safe.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from socket import socket
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from clickhouse_driver import Client, defines, errors
from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.connection import Connection
from clickhouse_driver.result import IterQueryResult

from ingest.runtime.setting_error import SettingError
from warehouse.storage.errors import WarehouseRefused, WarehouseUnavailable
from warehouse.storage.native_columns import Column, PackingClient

Row = tuple[Any, ...]
#: ClickHouse error codes worth a retry: timeouts, sockets, memory, too many parts or queries, a replica or table
#: that is still starting.
_PASSING: Final = frozenset({3, 159, 160, 164, 202, 203, 209, 210, 236, 241, 242, 252, 319, 394, 425, 999})


class Warehouse:
    """A ClickHouse database. Safe to share between threads; each gets its own connection.

    ``url`` is ``clickhouse://user:password@host:port/database``; ``settings`` are ClickHouse settings sent with
    every query. All methods raise ``WarehouseUnavailable`` or ``WarehouseRefused``.
    """

    def __init__(self, url: str, *, timeout_s: float = 60, settings: Mapping[str, Any] | None = None) -> None:
        address = urlsplit(url)
        if address.scheme != "clickhouse" or not address.hostname:
            raise SettingError(
                f"FLATTR_WAREHOUSE (or --warehouse) is {masked(url)!r}: it must be "
                "clickhouse://user:password@host:port/database"
            )
        self.url = url
        self.database = address.path.strip("/") or "default"
        self.timeout_s = timeout_s
        self.settings = dict(settings or {})
        self._local = threading.local()

    def rows(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Run a query and return all its rows. ``%(name)s`` in ``sql`` is replaced from ``params``."""
        with self._client() as client:
            return list(client.execute(sql, params, settings=settings))

    def columns(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[Sequence[Any]]:
        """Run a query and return its columns; an empty list when it has no rows."""
        with self._client() as client:
            return list(client.execute(sql, params, columnar=True, settings=settings))

    def stream(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        *,
        query_id: str | None = None,
    ) -> Iterator[Row]:
        """Run a query and yield its rows as they arrive, on a connection of its own.

        ``query_id`` names the query; while it runs, the server refuses another with the same id.
        """
        with _translated(self):
            client = self._connect()
            try:
                yield from client.execute_iter(sql, params, settings=settings, query_id=query_id)
            finally:
                client.disconnect()

    def blocks(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Iterator[list[Sequence[Any]]]:
        """Run a query and yield its blocks, as columns, as they arrive, on a connection of its own."""
        yield from self._blocks(self._connect(), sql, params, settings)

    def packed(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Iterator[list[bytearray]]:
        """Run a query of FixedString columns and yield its blocks, each column as one contiguous ``bytearray``."""
        with _translated(self):
            client = self._connect()
            _unseparated(client.connection)
        for block in self._blocks(client, sql, params, {**(settings or {}), "strings_as_bytes": True}):
            if block:
                yield [pieces[0] for pieces in block]

    def _blocks(
        self, client: Client, sql: str, params: Mapping[str, Any] | None, settings: Mapping[str, Any] | None
    ) -> Iterator[list[Sequence[Any]]]:
        with _translated(self):
            client.iter_query_result_cls = _Blocks
            try:
                yield from client.execute_iter(sql, params, settings=settings)
            finally:
                client.disconnect()

    def command(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run a query that returns nothing."""
        with self._client() as client:
            client.execute(sql, params, settings=settings)

    def insert(
        self,
        table: str,
        columns: Mapping[str, Column],
        *,
        traceparent: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> int:
        """Insert columns of equal length as one block and return the number of rows.

        The insert is atomic as long as it has fewer than 1,048,576 rows, all of one partition.
        Columns are either all lists, whose text may be ``str`` or ``bytes``, or all ``Packed``.
        ``traceparent`` (W3C Trace Context) makes the server's spans part of that trace.
        """
        names = ", ".join(columns)
        sql = f"INSERT INTO {table} ({names}) VALUES"
        if traceparent is not None:
            settings = {**(settings or {}), "opentelemetry_traceparent": _as_driver_sends(traceparent)}
        with self._client() as client:
            return int(client.execute(sql, list(columns.values()), columnar=True, settings=settings))

    def insert_if(
        self,
        condition: str,
        params: Mapping[str, Any],
        table: str,
        columns: Mapping[str, Sequence[Any]],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> int:
        """As ``insert``, of Python values, if the server finds ``condition`` true when it begins.

        Otherwise raises ``WarehouseRefused`` with the code 395, and nothing is inserted.
        """
        names = ", ".join(columns)
        kinds: dict[str, str] = dict(
            self.rows(
                "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = %(table)s",
                {"table": table},
            )
        )
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        given = {"name": "given", "structure": [(name, kinds[name]) for name in columns], "data": rows}
        with self._client() as client:
            client.execute(
                f"INSERT INTO {table} ({names}) SELECT {names} FROM given WHERE throwIf(NOT ({condition})) = 0",  # noqa: S608 - our names
                params,
                settings=settings,
                external_tables=[given],
            )
        return len(rows)

    def close(self) -> None:
        """Close this thread's connection. The next call opens a new one."""
        client: Client | None = getattr(self._local, "client", None)
        if client is not None:
            client.disconnect()
            self._local.client = None

    def _connect(self) -> Client:
        address = urlsplit(self.url)
        return PackingClient(
            address.hostname,
            port=address.port or 9000,
            database=self.database,
            user=unquote(address.username or "default"),
            password=unquote(address.password or ""),
            connect_timeout=5,
            send_receive_timeout=self.timeout_s,
            sync_request_timeout=5,
            settings=self.settings,
        )

    @contextmanager
    def _client(self) -> Iterator[Client]:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
        with _translated(self):
            try:
                yield client
            except BaseException as error:
                # Anything but an error reported by the server leaves the connection in the middle of a packet.
                if not isinstance(error, errors.ServerException):
                    self.close()
                raise


class _Blocks(IterQueryResult):  # type: ignore[misc]  # the driver has no types
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


def _unseparated(connection: Connection) -> None:
    """Connect, and have the driver return each block of a FixedString column in one piece."""
    connection.connect()
    # Only the server's hello has been read so far, so the replaced reader's buffer is empty.
    reader = _Unseparated(connection.socket, defines.BUFFER_SIZE)
    connection.fin = connection.block_in.fin = connection.block_in_raw.fin = reader


def _as_driver_sends(traceparent: str) -> str:
    """Swap the halves of the trace id, because the driver sends them in the wrong order."""
    version, trace, span, flags = traceparent.split("-")
    return f"{version}-{trace[16:]}{trace[:16]}-{span}-{flags}"


def columns_of(rows: Sequence[object], *names: str, **same: object) -> dict[str, Sequence[Any]]:
    """Columns for ``insert``: these attributes of the rows, and values that are the same in every row."""
    own = {name: [getattr(row, name) for row in rows] for name in names}
    return {**own, **{name: [value] * len(rows) for name, value in same.items()}}


def masked(url: str) -> str:
    """The URL with its password masked, for messages and logs."""
    address = urlsplit(url)
    if address.password is None:
        return url
    host = f"{address.hostname}:{address.port}" if address.port else str(address.hostname)
    return urlunsplit(address._replace(netloc=f"{address.username}:***@{host}"))


@functools.cache
def named(query: str) -> str:
    """The text of ``<query>.sql``, from the ``sql`` folder beside the package that runs it. Names are unique."""
    return _statements()[query].read_text()


@functools.cache
def _statements() -> dict[str, Path]:
    roots = [Path(str(resources.files(package))) for package in ("warehouse", "streams")]
    return {path.stem: path for root in roots for path in root.rglob("sql/*.sql")}


@contextmanager
def _translated(warehouse: Warehouse) -> Iterator[None]:
    try:
        yield
    except errors.ServerException as error:
        first_line = str(error.message).partition(" Stack trace")[0].strip()
        if error.code in _PASSING:
            raise WarehouseUnavailable(first_line) from error
        raise WarehouseRefused(first_line, error.code) from error
    except (
        errors.NetworkError,
        errors.SocketTimeoutError,
        errors.PartiallyConsumedQueryError,
        EOFError,
        OSError,
    ) as error:
        raise WarehouseUnavailable(f"The warehouse at {masked(warehouse.url)} does not answer: {error}") from error
