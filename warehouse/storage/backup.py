"""A backup of the whole database, by ClickHouse's own BACKUP. ``restore.py`` brings it back.

The server copies a table as it is at one moment, but several tables at different ones, while workers go on writing. So
the tables that are written in an order are copied in *stages* against that order: `progress` first, and what it speaks
for afterwards. Such a copy is what a crash could have left behind: what is ahead of `progress` is counted again from
the log, and nothing that counts as done is missing.

On a cluster every shard copies its part, from one replica that catches up before each stage, and a stage begins when
the one before it is done on every shard: `progress` of one shard speaks for flattrs on another. Tables of which every
node has all rows are copied by the first shard.

A backup's last part is its row in `backups`. Without that it is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from warehouse.storage.backup_target import BackupRefused, Shard, Target, bring, copy
from warehouse.storage.client import Warehouse, named
from warehouse.storage.errors import MigrationError, WarehouseRefused, WarehouseUnavailable
from warehouse.storage.placement import SHARDED, here
from warehouse.storage.topology import Topology

#: Tables of each stage, in the order in which they are copied. All others come last.
Stages = Sequence[tuple[str, Sequence[str]]]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Parts of every backup beside its stages: whose it is on a cluster, all other tables, and the row that makes it whole.
BEGUN: Final = "begun"
REST: Final = "rest"
WHOLE: Final = "whole"
LIST: Final = "backups"
#: Codes of ClickHouse: there is no such backup; it has no such table.
_MISSING, _NO_TABLE = 599, 600
#: Stands in a database until its restore is done.
UNFINISHED: Final = "restore_unfinished"


@dataclass(frozen=True)
class Backup:
    """A whole backup. Times are ms since 1970 by the server's clock; ``positions`` are by partition."""

    name: str
    begun_ms: int
    finished_ms: int
    migration: int
    bytes: int
    positions: dict[int, int]


@dataclass(frozen=True)
class Source:
    """A backup that is brought back; ``after`` is called with the name of each part that is there again."""

    target: Target
    name: str
    stages: Stages
    after: Callable[[str], None]


def back_up(
    warehouse: Warehouse, target: Target, name: str, stages: Stages, *, after: Callable[[str], None] = lambda _: None
) -> Backup:
    """Copy everything under ``name``; returns when the backup is whole. ``after`` is called with each part's name.

    Nothing but the stages' tables may be written meanwhile: hold the lock of the close. Raises ``BackupRefused`` if
    there is a backup of this name, begun ones included.
    """
    if not _NAME.fullmatch(name):
        raise BackupRefused(f"{name[:80]!r} is no name of a backup: letters, digits, dots, dashes, at most 64")
    with _shards(warehouse) as shards:
        if warehouse.topology.cluster:
            _check_shared(warehouse, shards[0], target, name)
        ((begun_ms, migration, partitions, positions),) = warehouse.rows(named("backup_begun"))
        size = 0
        for stage, tables in stages:
            _catch_up(shards)
            size += copy([(shard, tables_of(shard, tables)) for shard in shards], target, name, stage)
            after(stage)
        _catch_up(shards)
        size += copy(_rest(warehouse, shards, stages), target, name, REST)
        after(REST)
        row = {
            "name": name, "begun_at": begun_ms, "migration": migration, "bytes": size,
            "partitions": partitions, "positions": positions,
        }  # fmt: skip
        warehouse.command(named("backup_finished"), row)
        _catch_up(shards[:1])
        copy([(shards[0], tables_of(shards[0], [LIST]))], target, name, WHOLE)
        after(WHOLE)
    return next(backup for backup in backups(warehouse) if backup.name == name)


def backups(warehouse: Warehouse) -> list[Backup]:
    """Whole backups that this database knows of, oldest first; they may have been deleted since."""
    return [
        Backup(name, begun_ms, finished_ms, migration, size, dict(zip(partitions, positions, strict=True)))
        for name, begun_ms, finished_ms, migration, size, partitions, positions in warehouse.rows(
            named("backups_known")
        )
    ]


def whole(contents: Sequence[tuple[Shard, str]], database: Warehouse, source: Source) -> Backup | None:
    """Bring the list of backups into a database; the one that is meant, or None if it is not whole or not there."""
    try:
        bring(contents, source.target, source.name, WHOLE)
    except WarehouseRefused as refused:
        if refused.code in {_MISSING, _NO_TABLE}:
            return None
        raise
    return next((one for one in backups(database) if one.name == source.name), None)


def backed_up_ms(warehouse: Warehouse) -> int:
    """Up to when a whole backup has everything, in ms since 1970; before the first one, when the database was made."""
    ((at_ms,),) = warehouse.rows(named("backed_up"))
    return int(at_ms)


def check_finished(server: Warehouse, database: str) -> None:
    """Raise ``MigrationError`` if a restore into the database was interrupted: tables may be missing."""
    if server.rows(
        "SELECT 1 FROM system.tables WHERE database = %(database)s AND name = %(it)s",
        {"database": database, "it": UNFINISHED},
    ):
        raise MigrationError(
            f"A restore into the database {database} was interrupted: run `flattr restore` again first."
        )


def tables_of(shard: Shard, names: Iterable[str], database: str = "") -> str:
    """What BACKUP and RESTORE call tables, of which a shard has its part."""
    local = [here(name) if shard.folder else name for name in names]
    return ", ".join(f"TABLE {database}{'.' * bool(database)}{name}" for name in local)


def unstaged(stages: Stages) -> list[str]:
    """The sharded tables that are in no stage."""
    staged = {table for _, tables in stages for table in tables}
    return [table for table in SHARDED if table not in staged]


def folders(topology: Topology, server: Warehouse) -> dict[str, str]:
    """Folders of a backup by what the servers of each shard call it (their macro).

    They bear the number under which rows are sent to the shard: a restore must not exchange two.
    """
    rows = server.rows(
        "SELECT shardNum(), getMacro('shard') FROM cluster(%(it)s, system.one)", {"it": topology.cluster}
    )
    found = {shard: f"shard-{number}/" for number, shard in rows}
    if not len(rows) == len(found) == len(topology.shards):
        raise BackupRefused(
            f"FLATTR_WAREHOUSE has {len(topology.shards)} shards, and the servers, by their remote_servers and their "
            f"macro `shard`, know {len(rows)}: {', '.join(sorted(found))}"
        )
    return found


def folder_of(server: Warehouse, known: dict[str, str]) -> str:
    """The folder of a server's shard."""
    ((shard,),) = server.rows("SELECT getMacro('shard')")
    return known[shard]


@contextmanager
def _shards(warehouse: Warehouse) -> Iterator[list[Shard]]:
    with warehouse.shards() as servers:
        if not warehouse.topology.cluster:
            yield [Shard(warehouse)]
            return
        known = folders(warehouse.topology, warehouse)
        yield sorted((Shard(server, folder_of(server, known)) for server in servers), key=lambda shard: shard.folder)


def _catch_up(shards: Sequence[Shard]) -> None:
    """What was acknowledged on any replica is in what comes next."""
    for shard in shards:
        if shard.folder:
            shard.server.catch_up()


def _check_shared(warehouse: Warehouse, first: Shard, target: Target, name: str) -> None:
    """See that every node that answers finds what another wrote: of disks that they do not share nothing came back."""
    content = tables_of(first, [LIST])
    copy([(first, content)], target, name, BEGUN)
    for node in warehouse.topology.nodes:
        with (
            closing(Warehouse(warehouse.url, topology=warehouse.topology.server(node))) as server,
            suppress(WarehouseUnavailable),
        ):
            if not _is_there(Shard(server, first.folder), content, target, name):
                raise BackupRefused(
                    f"{target} is not one place: {node[0]}:{node[1]} does not find there what another node wrote. A "
                    "cluster's backups go to S3, or to a disk that all nodes mount."
                )


def _is_there(shard: Shard, content: str, target: Target, name: str) -> bool:
    try:
        copy([(shard, content)], target, name, BEGUN)
    except BackupRefused:
        return True
    return False


def _rest(warehouse: Warehouse, shards: Sequence[Shard], stages: Stages) -> list[tuple[Shard, str]]:
    """What is in no stage: the whole database but those and the list, and what the other shards have of such tables."""
    first, *others = shards
    without = [table for _, tables in stages for table in tables]
    names = ", ".join([*(here(name) if first.folder else name for name in without), LIST])
    contents = [(first, f"DATABASE {warehouse.database} EXCEPT TABLES {names}")]
    return contents + [(shard, tables_of(shard, unstaged(stages))) for shard in others]
