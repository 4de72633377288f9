"""Brings a backup back into an empty database: of one server, or of a cluster with as many shards.

The other way round than it was copied, so that `progress` comes last; a table marks the database as unfinished until
then. On a cluster the first node of each shard brings the shard's part back, and the others fetch it from there. The
mark stands on the first node alone, is made before anything and dropped after everything. A backup of one server comes
into a cluster by ``spread.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final

from warehouse.storage import backup
from warehouse.storage.backup import LIST, REST, UNFINISHED, WHOLE, Backup, Source, Stages
from warehouse.storage.backup_target import BackupRefused, Shard, Target, bring
from warehouse.storage.client import Warehouse
from warehouse.storage.cluster_schema import forget_replicas, model_of, structure
from warehouse.storage.migrate import migrations
from warehouse.storage.spread import spread

_CREATED: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")


@dataclass(frozen=True)
class _Servers:
    """Servers without the database, which may not exist."""

    #: at its first node each shard, by its number
    shards: list[Shard]
    #: all others
    others: list[Warehouse]

    @property
    def first(self) -> Warehouse:
        """Where the unfinished database is marked."""
        return self.shards[0].server

    @property
    def nodes(self) -> list[Warehouse]:
        """All of them, the first one last."""
        return [*self.others, *(shard.server for shard in reversed(self.shards))]


def restore(
    warehouse: Warehouse, target: Target, name: str, stages: Stages, *, after: Callable[[str], None] = lambda _: None
) -> Backup:
    """Bring a whole backup into an empty database; one whose restore was interrupted counts as empty.

    Raises ``BackupRefused`` if the database has tables, or if there is no whole backup of this name.
    """
    source = Source(target, name, stages, after)
    with _servers(warehouse) as servers:
        _empty(warehouse, servers)
        found = _whole(warehouse, servers.shards[0], source)
        if found is not None:
            _bring_shards(warehouse, servers, source)
        elif warehouse.topology.cluster:
            found = spread(warehouse, servers.first.topology.nodes[0], source)
        if found is None:
            _drop(warehouse, servers)
            raise BackupRefused(
                f"{name} in {target} is no whole backup of a database {warehouse.database}: it was interrupted, or is "
                "not there"
            )
        servers.first.command(f"DROP TABLE {warehouse.database}.{UNFINISHED} SYNC")
    return found


def _bring_shards(warehouse: Warehouse, servers: _Servers, source: Source) -> None:
    """What the one server, or each shard, has copied."""
    of, after = (source.target, source.name), source.after
    after(WHOLE)
    bring(_rest(warehouse, servers.shards, source.stages), *of, REST)
    after(REST)
    for stage, tables in reversed(source.stages):
        bring(_contents(warehouse, servers.shards, tables), *of, stage)
        after(stage)
    if warehouse.topology.cluster:
        _replicate(warehouse, servers)
        after("replicas")


@contextmanager
def _servers(warehouse: Warehouse) -> Iterator[_Servers]:
    topology = warehouse.topology
    with ExitStack() as closed:

        def server(node: tuple[str, int]) -> Warehouse:
            opened = Warehouse(warehouse.url, timeout_s=warehouse.timeout_s, topology=topology.server(node, "default"))
            return closed.enter_context(closing(opened))

        shards = [[server(node) for node in nodes] for nodes in topology.shards]
        others = [node for nodes in shards for node in nodes[1:]]
        if not topology.cluster:
            yield _Servers([Shard(shards[0][0])], others)
            return
        known = backup.folders(topology, shards[0][0])
        numbered = [Shard(nodes[0], backup.folder_of(nodes[0], known)) for nodes in shards]
        yield _Servers(sorted(numbered, key=lambda shard: shard.folder), others)


def _empty(warehouse: Warehouse, servers: _Servers) -> None:
    """Make the database, empty and marked as unfinished, on every node."""
    database = warehouse.database
    tables = {node: _tables(node, database) for node in servers.nodes}
    aside = f"`RENAME DATABASE {database} TO {database}_before`"
    if warehouse.topology.cluster:
        # Paths of replicated tables have the database's name, so it cannot be put aside.
        aside = f"copy the nodes' disks if anything there may be missing here, `DROP DATABASE {database} SYNC` on each"
    if UNFINISHED not in tables[servers.first] and any(tables.values()):
        raise BackupRefused(
            f"the database {database} has {max(map(len, tables.values()))} tables: a backup goes into an empty one. "
            f"Stop all services, {aside}, and run this again."
        )
    _drop(warehouse, servers)
    servers.first.command(f"CREATE DATABASE {database}")
    servers.first.command(f"CREATE TABLE {database}.{UNFINISHED} (backup String) ENGINE = MergeTree ORDER BY backup")
    if warehouse.topology.cluster:
        ours = {"migrations", *(name for one in migrations() for name in _CREATED.findall(one.sql))}
        for node in servers.nodes:
            node.command(f"CREATE DATABASE IF NOT EXISTS {database}")
            forget_replicas(node, database, ours)


def _tables(node: Warehouse, database: str) -> set[str]:
    rows = node.rows("SELECT name FROM system.tables WHERE database = %(it)s", {"it": database})
    return {name for (name,) in rows}


def _drop(warehouse: Warehouse, servers: _Servers) -> None:
    """The marked one goes last: what is left of an interruption is still marked."""
    if warehouse.topology.cluster:
        servers.first.command(f"DROP DATABASE IF EXISTS {model_of(warehouse.database)} SYNC")
    for node in servers.nodes:
        node.command(f"DROP DATABASE IF EXISTS {warehouse.database} SYNC")


def _whole(warehouse: Warehouse, first: Shard, source: Source) -> Backup | None:
    (node,) = first.server.topology.nodes
    content = backup.tables_of(first, [LIST], warehouse.database)
    with closing(Warehouse(warehouse.url, topology=warehouse.topology.server(node))) as database:
        return backup.whole([(first, content)], database, source)


def _contents(warehouse: Warehouse, shards: Sequence[Shard], tables: Iterable[str]) -> list[tuple[Shard, str]]:
    return [(shard, backup.tables_of(shard, tables, warehouse.database)) for shard in shards]


def _rest(warehouse: Warehouse, shards: Sequence[Shard], stages: Stages) -> list[tuple[Shard, str]]:
    """The first shard has the whole database without the stages, the others what they have of such tables."""
    first, *others = shards
    return [(first, f"DATABASE {warehouse.database}"), *_contents(warehouse, others, backup.unstaged(stages))]


def _replicate(warehouse: Warehouse, servers: _Servers) -> None:
    """Have every node make what the first one has and it has not, and fetch the rows."""
    statements = structure(servers.first, warehouse.database, without=UNFINISHED)
    for node in servers.nodes:
        for statement in statements:
            node.command(statement)
    warehouse.sync()
