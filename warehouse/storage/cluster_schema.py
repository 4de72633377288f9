"""The schema of a cluster, derived from the migrations, which are written for one server.

A new cluster's tables are those of a model: a database on its first node that the migrations made as on any server, and
that is dropped afterwards. Later migrations may create tables and views, which are taken from the model as well, and
alter tables, which every node does. Everything is idempotent, so after a crash it runs again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

from warehouse.storage.backup import check_finished
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import MigrationError, WarehouseRefused
from warehouse.storage.placement import ADDED_UP, LOCAL_VIEWS, SHARDED, here, on_shard

_ENGINE: Final = re.compile(r"ENGINE = (\w*MergeTree)(?:\((.*?)\))?(?=\n|$)")
#: A local part, whose columns a view may call by the whole table's name.
_LOCAL: Final = re.compile(r"(FROM \w+\.(\w+)_here)\b(?! AS)")
_SAME_QUERY: Final = 216
#: What is said of a replica that lives, and of a table that the coordinator does not know; their code is the same.
_ACTIVE, _NOTHING = "because it's active", "does not look like a table path"
#: Longer than a coordinator believes in the session of a process that died.
_SESSION_S: Final = 60
_LOOK_S: Final = 0.2
#: Runs as long as it is read: whoever migrates holds it on the first node, which refuses a second query of its name.
_HOLD: Final = (
    "SELECT sleepEachRow(0.1) FROM numbers(1000000) "
    "SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0, max_execution_time = 0"
)
_ALTER_SYNC: Final = {"alter_sync": 2, "mutations_sync": 2}


@contextmanager
def prepared(warehouse: Warehouse, migrate_server: Callable[[Warehouse], object]) -> Iterator[ClusterSchema]:
    """Hold the lock of migrations, with the database and the ledger on every node and a model beside them."""
    topology = warehouse.topology
    first = topology.nodes[0]

    def server(node: tuple[str, int], database: str = "") -> Warehouse:
        return Warehouse(warehouse.url, timeout_s=600, topology=topology.server(node, database))

    with ExitStack() as closed:
        plain = [closed.enter_context(closing(server(node, "default"))) for node in topology.nodes]
        closed.enter_context(_locked(plain[0], warehouse.database))
        for node in plain:
            check_finished(node, warehouse.database)
        for node in plain:
            node.command(f"CREATE DATABASE IF NOT EXISTS {warehouse.database}")
        name = model_of(warehouse.database)
        plain[0].command(f"DROP DATABASE IF EXISTS {name} SYNC")
        model = closed.enter_context(closing(server(first, name)))
        migrate_server(model)
        schema = closed.enter_context(schema_like(warehouse, model))
        schema.create({"migrations"})
        yield schema
        plain[0].command(f"DROP DATABASE {name} SYNC")


def model_of(database: str) -> str:
    """The name of the model's database."""
    return f"{database}_model"


@contextmanager
def schema_like(warehouse: Warehouse, model: Warehouse) -> Iterator[ClusterSchema]:
    """What brings every node's database, which is there, to a model's schema."""
    topology = warehouse.topology
    with ExitStack() as closed:
        nodes = [
            closed.enter_context(closing(Warehouse(warehouse.url, timeout_s=600, topology=topology.server(node))))
            for node in topology.nodes
        ]
        yield ClusterSchema(nodes, model, topology.cluster)


class ClusterSchema:
    """Brings every node to the model's schema."""

    def __init__(self, nodes: Sequence[Warehouse], model: Warehouse, cluster: str) -> None:
        self._nodes = nodes
        self._model = model
        self._cluster = cluster
        self._database = nodes[0].database

    def apply(self, migrations: Iterable[Iterable[str]], *, is_new: bool) -> None:
        """Make every node's schema the model's, from that before these migrations. Raises ``MigrationError``."""
        if not is_new:
            for statement in (statement for migration in migrations for statement in migration):
                self._alter(statement)
        self.create(None)

    def create(self, only: set[str] | None) -> None:
        """Create what is not there, of these names or all."""
        rows = self._model.rows(
            "SELECT name, engine, create_table_query FROM system.tables WHERE database = currentDatabase() "
            "ORDER BY engine LIKE '%%View', name", {},
        )  # fmt: skip
        tables: list[str] = []
        over: list[str] = []
        for name, engine, _ in rows:
            if only is None or name in only:
                ((ddl,),) = self._model.rows(f"SHOW CREATE TABLE {name}")
                ours = ddl.replace(f"{self._model.database}.", f"{self._database}.")
                tables += self._forms(name, engine, ours)
                over += [_whole(self._cluster, self._database, name, SHARDED[name])] if name in SHARDED else []
        # What holds data before what reads it; views come last in `tables`.
        data = [ddl for ddl in tables if " VIEW " not in ddl.partition("\n")[0]]
        views = [ddl for ddl in tables if ddl not in data]
        self._everywhere([*data, *over, *views])

    def _forms(self, name: str, engine: str, ddl: str) -> list[str]:
        if not engine.endswith("MergeTree"):
            ddl = ddl.replace(" VIEW ", " VIEW IF NOT EXISTS ", 1)
            local = on_shard(ddl.replace(f"{self._database}.{name}", f"{self._database}.{here(name)}", 1))
            if name in ADDED_UP:
                return [_LOCAL.sub(r"\1 AS \2", local), self._added_up(name)]
            return [ddl, local] if name in LOCAL_VIEWS else [ddl]
        path, replica = _replica(self._database, name, "{shard}", "{replica}")
        created = re.sub(r"^CREATE TABLE \S+", f"CREATE TABLE IF NOT EXISTS {self._database}.{here(name)}", ddl)
        return [_ENGINE.sub(lambda found: _replicated(found, path, replica), created, count=1)]

    def _added_up(self, name: str) -> str:
        """A view of what the shards' views state. It has no data, so it may be made anew."""
        keys, part = ADDED_UP[name], f"cluster('{self._cluster}', '{self._database}', '{here(name)}')"
        sums = "sum(part.flattrs) AS flattrs, sum(part.quarantined) AS quarantined"
        shown = f"SELECT {keys}, {sums} FROM {part} AS part GROUP BY {keys}"  # noqa: S608 - our names
        view = f"{self._database}.{name} DEFINER = CURRENT_USER SQL SECURITY DEFINER"
        return f"CREATE OR REPLACE VIEW {view} AS {shown}"

    def _alter(self, statement: str) -> None:
        kind = statement.split(None, 1)[0].upper()
        if kind == "ALTER":
            # Node by node: two at once would get in each other's way.
            local = re.sub(r"TABLE (\w+)", lambda found: f"TABLE {here(found[1])}", statement, count=1)
            for node in self._nodes:
                node.command(local, settings=_ALTER_SYNC)
        elif kind != "CREATE":
            raise MigrationError(f"A cluster cannot migrate by itself what begins with {statement[:60]!r}")

    def _everywhere(self, statements: Sequence[str]) -> None:
        def take(node: Warehouse) -> None:
            for statement in statements:
                node.command(statement, settings=_ALTER_SYNC)
            node.close()

        with ThreadPoolExecutor(len(self._nodes), "migrate") as threads:
            list(threads.map(take, self._nodes))


def _replica(database: str, table: str, shard: str, replica: str) -> tuple[str, str]:
    """Where the coordinator has a table, and what it calls a node's replica of it."""
    folder, name = (shard, replica) if table in SHARDED else ("all", f"{shard}-{replica}")
    return f"/flattr/{database}/{folder}/{table}", name


def forget_replicas(server: Warehouse, database: str, tables: Iterable[str]) -> None:
    """Have the coordinator forget a node's replicas in a database that the node does not have (any more).

    It remembers those of a node whose disk is lost, and refuses to have them made anew.
    """
    ((shard, replica),) = server.rows("SELECT getMacro('shard'), getMacro('replica')")
    for table in tables:
        path, name = _replica(database, table, shard, replica)
        _forget(server, path, name)


def _forget(server: Warehouse, path: str, name: str) -> None:
    give_up_at_s = time.monotonic() + _SESSION_S
    while True:
        try:
            server.command(f"SYSTEM DROP REPLICA '{name}' FROM ZKPATH '{path}'")
        except WarehouseRefused as refused:
            # Until the session of the process that died ends, its replicas seem to live.
            if _ACTIVE in str(refused) and time.monotonic() < give_up_at_s:
                time.sleep(_LOOK_S)
                continue
            if _NOTHING not in str(refused):
                raise
        return


def structure(model: Warehouse, database: str, *, without: str) -> list[str]:
    """Statements that make what there is in a node's database on another node: what holds data before what reads it."""
    rows = model.rows(
        "SELECT name FROM system.tables WHERE database = %(it)s AND name != %(without)s "
        "ORDER BY engine LIKE '%%View', engine = 'Distributed', name", {"it": database, "without": without},
    )  # fmt: skip
    found = []
    for (name,) in rows:
        ((ddl,),) = model.rows(f"SHOW CREATE TABLE {database}.{name}")
        found.append(re.sub(r"^CREATE (TABLE|VIEW|MATERIALIZED VIEW) ", r"CREATE \1 IF NOT EXISTS ", ddl, count=1))
    return found


def make_like(warehouse: Warehouse, table: str, name: str) -> None:
    """Create an empty table like another in everything; on a cluster, on every node, and all must answer."""
    topology = warehouse.topology
    if not topology.cluster:
        warehouse.command(f"CREATE TABLE {name} AS {table}")
        return
    ((ddl,),) = warehouse.rows(f"SHOW CREATE TABLE {here(table)}")
    local = ddl.replace(f"{here(table)}\n", f"{here(name)}\n", 1).replace(f"/{table}'", f"/{name}'", 1)
    key = SHARDED.get(table)
    whole = [_whole(topology.cluster, topology.database, name, key)] if key else []
    on_every_node(warehouse, [local, *whole])


def drop_like(warehouse: Warehouse, name: str) -> None:
    """Drop such a table if there is one."""
    local = {name, here(name)} if warehouse.topology.cluster else {name}
    on_every_node(warehouse, [f"DROP TABLE IF EXISTS {one} SYNC" for one in sorted(local)])


def on_every_node(warehouse: Warehouse, statements: Sequence[str]) -> None:
    """Run these on each node by itself; all must answer."""
    topology = warehouse.topology
    for node in topology.nodes:
        with closing(Warehouse(warehouse.url, timeout_s=600, topology=topology.server(node))) as server:
            for statement in statements:
                server.command(statement)


def _whole(cluster: str, database: str, name: str, key: str) -> str:
    """The whole table, on every node. It has no data, so it is made anew when its columns may have changed."""
    return (
        f"CREATE OR REPLACE TABLE {database}.{name} AS {database}.{here(name)} "
        f"ENGINE = Distributed('{cluster}', '{database}', '{here(name)}', {key})"
    )


def _replicated(engine: re.Match[str], path: str, replica: str) -> str:
    more = f", {engine[2]}" if engine[2] else ""
    return f"ENGINE = Replicated{engine[1]}('{path}', '{replica}'{more})"


@contextmanager
def _locked(server: Warehouse, database: str) -> Iterator[None]:
    name = f"flattr migrate {database}"
    held: Iterator[Any] = server.stream(_HOLD, query_id=name)
    try:
        next(held)
    except WarehouseRefused as refused:
        if refused.code == _SAME_QUERY:
            raise MigrationError("Another process is migrating this cluster: wait until it is done.") from None
        raise
    try:
        with closing(held):  # type: ignore[type-var]  # a generator
            yield
    finally:
        # The server would notice by itself, but later than the next comes.
        server.command("KILL QUERY WHERE query_id = %(name)s SYNC", {"name": name})
