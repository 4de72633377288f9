"""The adapter to ClickHouse: one driver client per thread, columnar inserts, translated errors.

The driver blocks, so call it from a worker thread, never from an event loop. Neither it nor this module retries:
only the caller knows whether a retry is safe.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from clickhouse_driver import Client, errors

from warehouse.storage import placement
from warehouse.storage.errors import WarehouseRefused, WarehouseUnavailable
from warehouse.storage.native_columns import Column, PackingClient
from warehouse.storage.native_results import Blocks, unseparated
from warehouse.storage.topology import Address, Topology, masked

Row = tuple[Any, ...]
Result = TypeVar("Result")
#: ClickHouse error codes worth a retry: timeouts, sockets, memory, too many parts or queries, a replica or table
#: that is still starting, another node that went away within its answer (32, 95, 96) or is not found (198, 279, 297),
#: no coordinator (225), no replica that is up to date (254, 265, 369), no quorum (285, 286, 289), a replica that has
#: not made a change yet (341).
_PASSING: Final = frozenset(
    {
        3, 32, 95, 96, 159, 160, 164, 198, 202, 203, 209, 210, 225, 236, 241, 242, 252, 254, 265, 279, 285, 286, 289,
        297, 319, 341, 369, 394, 425, 999,
    }
)  # fmt: skip
#: One block needs one thread: handing a hundred rows to more costs the server a quarter more, and 50,000 rows are no
#: quicker.
_INSERT: Final = {"max_threads": 1}
#: Of a cluster: a node that does not answer costs this before the next is tried.
_NEXT_NODE_S: Final = 2


class Warehouse:
    """A ClickHouse database. Safe to share between threads; each gets its own connection.

    ``url`` says where it is, see ``topology.py``; ``settings`` are ClickHouse settings sent with every query. On a
    cluster a connection goes to the first node that answers and has caught up; every statement is given as for one
    server. All methods raise ``WarehouseUnavailable`` or ``WarehouseRefused``.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60,
        settings: Mapping[str, Any] | None = None,
        topology: Topology | None = None,
    ) -> None:
        self.url = url
        self.topology = topology or Topology.of(url)
        self.database = self.topology.database
        self.timeout_s = timeout_s
        self.settings = dict(settings or {})
        self._local = threading.local()
        #: Whether statements are about this node's part of the sharded tables.
        self._is_on_shard = False

    def rows(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Run a query and return all its rows. ``%(name)s`` in ``sql`` is replaced from ``params``."""
        return self._read(lambda client: list(client.execute(self._placed(sql), params, settings=settings)))

    def columns(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[Sequence[Any]]:
        """Run a query and return its columns; an empty list when it has no rows."""
        return self._read(
            lambda client: list(client.execute(self._placed(sql), params, columnar=True, settings=settings))
        )

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
                yield from client.execute_iter(self._placed(sql), params, settings=settings, query_id=query_id)
            finally:
                client.disconnect()

    def blocks(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Iterator[list[Sequence[Any]]]:
        """Run a query and yield its blocks, as columns, as they arrive, on a connection of its own."""
        with _translated(self):
            client = self._connect()
        yield from self._blocks(client, sql, params, settings)

    def packed(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Iterator[list[bytearray]]:
        """Run a query of FixedString columns and yield its blocks, each column as one contiguous ``bytearray``."""
        with _translated(self):
            client = self._connect()
            unseparated(client.connection)
        for block in self._blocks(client, sql, params, {**(settings or {}), "strings_as_bytes": True}):
            if block:
                yield [pieces[0] for pieces in block]

    def _blocks(
        self, client: Client, sql: str, params: Mapping[str, Any] | None, settings: Mapping[str, Any] | None
    ) -> Iterator[list[Sequence[Any]]]:
        with _translated(self):
            client.iter_query_result_cls = Blocks
            try:
                yield from client.execute_iter(self._placed(sql), params, settings=settings)
            finally:
                client.disconnect()

    def command(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run a query that returns nothing. Each shard of a cluster alters its part of a table itself."""
        if placement.alters_shards(sql):
            self._per_shard(sql, params, settings)
        else:
            self._run(sql, params, settings)

    def command_per_shard(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run a command once for each shard, on its own part of the tables; on one server, once."""
        self._per_shard(sql, params, settings)

    def command_everywhere(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run a command on every node that answers; on one server, there."""
        if not self._is_whole_cluster:
            self._run(sql, params, settings)
            return
        for node in self.topology.nodes:
            with suppress(WarehouseUnavailable):
                self._part(node).command(sql, params, settings)

    def sync(self, table: str = "") -> None:
        """Return when this thread's node has what any node acknowledged before the call; one server always has.

        Without ``table``, of all tables and for every node that answers, one replica of each shard at least.
        """
        if not self.topology.cluster:
            return
        if table:
            self._run(f"SYSTEM SYNC REPLICA {placement.here(table)} LIGHTWEIGHT")
            return
        for shard in self.topology.shards:
            if not sum(self._catches_up(node) for node in shard):
                raise WarehouseUnavailable(f"No replica of the shard {shard} answers")

    @contextmanager
    def shards(self) -> Iterator[Sequence[Warehouse]]:
        """Warehouses that each see one part of the sharded tables, on one node that stays the same and has caught up.

        Together they see every row once; on one server that is this warehouse. For reads that build on each other.
        """
        if not self._is_whole_cluster:
            yield [self]
            return
        with ExitStack() as closed:
            yield [closed.enter_context(closing(self._caught_up(shard))) for shard in self.topology.shards]

    def _caught_up(self, shard: Sequence[Address]) -> Warehouse:
        for node in shard:
            if self._catches_up(node):
                return self._new_part(node)
        raise WarehouseUnavailable(f"No replica of the shard {shard} answers")

    def _catches_up(self, node: Address) -> bool:
        with suppress(WarehouseUnavailable):
            self._part(node).catch_up()
            return True
        return False

    def catch_up(self) -> None:
        """Have this thread's node fetch what the others of the cluster acknowledged."""
        with self._client() as client:
            _catch_up(client)

    @property
    def _is_whole_cluster(self) -> bool:
        return bool(self.topology.cluster) and not self._is_on_shard

    def _part(self, *nodes: Address) -> Warehouse:
        """This thread's warehouse of some nodes of a shard."""
        members: dict[tuple[Address, ...], Warehouse] = self._local.__dict__.setdefault("members", {})
        return members.get(nodes) or members.setdefault(nodes, self._new_part(*nodes))

    def _new_part(self, *nodes: Address) -> Warehouse:
        part = Warehouse(
            self.url, timeout_s=self.timeout_s, settings=self.settings, topology=self.topology.only(*nodes)
        )
        part._is_on_shard = True
        return part

    def _per_shard(self, sql: str, params: Mapping[str, Any] | None, settings: Mapping[str, Any] | None) -> None:
        if not self._is_whole_cluster:
            self._run(sql, params, settings)
            return
        for shard in self.topology.shards:
            self._part(*shard).command(sql, params, settings)

    def _run(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        with self._client() as client:
            client.execute(self._placed(sql), params, settings=settings)

    def _placed(self, sql: str) -> str:
        if not self.topology.cluster:
            return sql
        return placement.on_shard(sql) if self._is_on_shard else placement.on_cluster(sql, self.topology.cluster)

    def _read(self, query: Callable[[Client], Result]) -> Result:
        """Run a query, which on a cluster may be asked of the next node once this one is gone."""
        try:
            with self._client() as client:
                return query(client)
        except WarehouseUnavailable:
            if not self.topology.cluster:
                raise
        self.close()
        with self._client() as client:
            return query(client)

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
        settings = {**_INSERT, **(settings or {})}
        if traceparent is not None:
            settings["opentelemetry_traceparent"] = _as_driver_sends(traceparent)
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
        """Close this thread's connections. The next call opens a new one."""
        for part in self._local.__dict__.get("members", {}).values():
            part.close()
        client: Client | None = getattr(self._local, "client", None)
        if client is not None:
            client.disconnect()
            self._local.client = None

    def _connect(self) -> Client:
        """A client of the one server, or of the first node that answers and has caught up."""
        *others, last = self.topology.nodes
        for node in others:
            client = self._client_of(node)
            try:
                _catch_up(client)
            except (errors.Error, OSError, EOFError):
                client.disconnect()
            else:
                return client
        client = self._client_of(last)
        if self.topology.cluster:
            _catch_up(client)
        return client

    def _client_of(self, node: Address) -> Client:
        return PackingClient(
            **self.topology.connection(node),
            connect_timeout=_NEXT_NODE_S if self.topology.cluster else 5,
            send_receive_timeout=self.timeout_s,
            sync_request_timeout=5,
            disable_reconnect=bool(self.topology.cluster),
            settings={**self.topology.settings, **self.settings},
        )

    @contextmanager
    def _client(self) -> Iterator[Client]:
        with _translated(self):
            client: Client | None = getattr(self._local, "client", None)
            if client is not None and self.topology.cluster and not client.connection.ping():
                # The driver would connect to the same node again, which came back without what it missed.
                self.close()
                client = None
            if client is None:
                client = self._local.client = self._connect()
            try:
                yield client
            except BaseException as error:
                # Anything but an error reported by the server leaves the connection in the middle of a packet.
                if not isinstance(error, errors.ServerException):
                    self.close()
                raise


def _as_driver_sends(traceparent: str) -> str:
    """Swap the halves of the trace id, because the driver sends them in the wrong order."""
    version, trace, span, flags = traceparent.split("-")
    return f"{version}-{trace[16:]}{trace[:16]}-{span}-{flags}"


def columns_of(rows: Sequence[object], *names: str, **same: object) -> dict[str, Sequence[Any]]:
    """Columns for ``insert``: these attributes of the rows, and values that are the same in every row."""
    own = {name: [getattr(row, name) for row in rows] for name in names}
    return {**own, **{name: [value] * len(rows) for name, value in same.items()}}


def _catch_up(client: Client) -> None:
    """Have a node that was away fetch what the others acknowledged meanwhile.

    A table whose log is empty looks as if it were behind, and costs a needless question.
    """
    behind = client.execute(
        "SELECT table FROM system.replicas "
        "WHERE database = currentDatabase() AND (is_readonly OR log_pointer <= log_max_index OR queue_size > 0)"
    )
    for (table,) in behind:
        client.execute(f"SYSTEM SYNC REPLICA {table} LIGHTWEIGHT")


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
