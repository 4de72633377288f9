"""Backup and restore of the whole database, by ClickHouse's own BACKUP and RESTORE.

The server copies a table as it is at one moment, but several tables at different ones, while workers go on writing. So
the tables that are written in an order are copied in *stages* against that order: `progress` first, and what it speaks
for afterwards. Such a copy is what a crash could have left behind: what is ahead of `progress` is counted again from
the log, and nothing that counts as done is missing.

A backup's last part is its row in `backups`. Without that it is none. A restore goes the other way round, so that
`progress` comes last; a table marks the database as unfinished until then.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from ingest.runtime.setting_error import SettingError
from warehouse.storage.client import Warehouse, named
from warehouse.storage.errors import WarehouseError, WarehouseRefused
from warehouse.storage.settings import BackupSettings

#: Tables of each stage, in the order in which they are copied. All others come last.
Stages = Sequence[tuple[str, Sequence[str]]]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REST: Final = "rest"
_WHOLE: Final = "whole"
_LIST: Final = "backups"
#: Stands in a database until its restore is done.
UNFINISHED: Final = "restore_unfinished"
#: Codes of ClickHouse: there is a backup of this name; there is none; it has no such table.
_EXISTS, _MISSING, _NO_TABLE = 598, 599, 600
_CODE: Final = re.compile(r"Code: (\d+)")
_LOOK_S: Final = 0.1


class BackupRefused(WarehouseError):
    """What was asked for would lose or mix something; the message says what to do instead."""


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
class Target:
    """Where backups are: a disk of the server's, or a folder of a store that speaks S3."""

    kind: str
    address: str
    key_id: str = ""
    secret: str = ""

    @classmethod
    def of(cls, settings: BackupSettings) -> Target:
        """As the settings say. Raises ``SettingError``."""
        kind, _, address = settings.backup_to.partition(":")
        if kind not in {"disk", "s3"} or not address or (kind == "s3" and not urlsplit(address).hostname):
            raise SettingError(
                f"FLATTR_BACKUP_TO is {settings.backup_to!r}: it must be disk:NAME, a disk that the server allows for "
                "backups, or s3:https://HOST/BUCKET/FOLDER"
            )
        key_id, secret = (given.get_secret_value() for given in (settings.backup_s3_key_id, settings.backup_s3_secret))
        return cls(kind, address.rstrip("/"), key_id, secret)

    def __str__(self) -> str:
        return f"{self.kind}:{self.address}"

    def part(self, name: str, part: str) -> tuple[str, dict[str, Any]]:
        """What stands behind TO and FROM for a part of a backup, and its parameters."""
        if self.kind == "disk":
            return "Disk(%(disk)s, %(path)s)", {"disk": self.address, "path": f"{name}/{part}"}
        url = f"{self.address}/{name}/{part}"
        if not self.key_id:
            return "S3(%(url)s)", {"url": url}
        return "S3(%(url)s, %(key_id)s, %(secret)s)", {"url": url, "key_id": self.key_id, "secret": self.secret}


def back_up(
    warehouse: Warehouse, target: Target, name: str, stages: Stages, *, after: Callable[[str], None] = lambda _: None
) -> Backup:
    """Copy everything under ``name``; returns when the backup is whole. ``after`` is called with each part's name.

    Nothing but the stages' tables may be written meanwhile: hold the lock of the close. Raises ``BackupRefused`` if
    there is a backup of this name, begun ones included.
    """
    _check_server(warehouse)
    if not _NAME.fullmatch(name):
        raise BackupRefused(f"{name[:80]!r} is no name of a backup: letters, digits, dots, dashes, at most 64")
    ((begun_ms, migration, partitions, positions),) = warehouse.rows(named("backup_begun"))
    staged = [table for _, tables in stages for table in tables]
    contents = [(stage, _tables(tables)) for stage, tables in stages]
    contents.append((_REST, f"DATABASE {warehouse.database} EXCEPT TABLES {', '.join([*staged, _LIST])}"))
    size = 0
    for part, content in contents:
        size += _copy(warehouse, content, target, name, part)
        after(part)
    row = {
        "name": name, "begun_at": begun_ms, "migration": migration, "bytes": size,
        "partitions": partitions, "positions": positions,
    }  # fmt: skip
    warehouse.command(named("backup_finished"), row)
    _copy(warehouse, _tables([_LIST]), target, name, _WHOLE)
    after(_WHOLE)
    return next(backup for backup in backups(warehouse) if backup.name == name)


def backups(warehouse: Warehouse) -> list[Backup]:
    """Whole backups that this database knows of, oldest first; they may have been deleted since."""
    return [
        Backup(name, begun_ms, finished_ms, migration, size, dict(zip(partitions, positions, strict=True)))
        for name, begun_ms, finished_ms, migration, size, partitions, positions in warehouse.rows(
            named("backups_known")
        )
    ]


def backed_up_ms(warehouse: Warehouse) -> int:
    """Up to when a whole backup has everything, in ms since 1970; before the first one, when the database was made."""
    ((at_ms,),) = warehouse.rows(named("backed_up"))
    return int(at_ms)


def _check_server(warehouse: Warehouse) -> None:
    """BACKUP copies one node's part alone: of a cluster that would look like a backup and be none."""
    if warehouse.topology.cluster:
        raise BackupRefused("flattr cannot back up a cluster yet: have the cluster's own tools copy every shard")


def restore(
    warehouse: Warehouse, target: Target, name: str, stages: Stages, *, after: Callable[[str], None] = lambda _: None
) -> Backup:
    """Bring a whole backup into an empty database; one whose restore was interrupted counts as empty.

    Raises ``BackupRefused`` if the database has tables, or if there is no whole backup of this name.
    """
    _check_server(warehouse)
    with _server(warehouse) as server:
        database = warehouse.database
        tables = {
            table
            for (table,) in server.rows("SELECT name FROM system.tables WHERE database = %(db)s", {"db": database})
        }
        if tables and UNFINISHED not in tables:
            raise BackupRefused(
                f"the database {database} has {len(tables)} tables: a backup goes into an empty one. "
                f"Stop all services, `RENAME DATABASE {database} TO {database}_before`, and run this again."
            )
        server.command(f"DROP DATABASE IF EXISTS {database} SYNC")
        server.command(f"CREATE DATABASE {database}")
        server.command(f"CREATE TABLE {database}.{UNFINISHED} (backup String) ENGINE = MergeTree ORDER BY backup")
        found = _whole(warehouse, server, target, name)
        if found is None:
            server.command(f"DROP DATABASE {database} SYNC")
            raise BackupRefused(
                f"{name} in {target} is no whole backup of a database {database}: it was interrupted, or is not there"
            )
        after(_WHOLE)
        contents = [(_REST, f"DATABASE {database}")]
        contents += [(stage, _tables(tables, database)) for stage, tables in reversed(stages)]
        for part, content in contents:
            _bring(server, content, target, name, part)
            after(part)
        server.command(f"DROP TABLE {database}.{UNFINISHED} SYNC")
    return found


def _whole(warehouse: Warehouse, server: Warehouse, target: Target, name: str) -> Backup | None:
    try:
        _bring(server, _tables([_LIST], warehouse.database), target, name, _WHOLE)
    except WarehouseRefused as refused:
        if refused.code in {_MISSING, _NO_TABLE}:
            return None
        raise
    return next((backup for backup in backups(warehouse) if backup.name == name), None)


def _tables(names: Iterable[str], database: str = "") -> str:
    return ", ".join(f"TABLE {database}{'.' * bool(database)}{name}" for name in names)


def _copy(warehouse: Warehouse, content: str, target: Target, name: str, part: str) -> int:
    """Copy a part; returns its size in bytes."""
    place, params = target.part(name, part)
    try:
        return _done(warehouse, f"BACKUP {content} TO {place} ASYNC", params)
    except WarehouseRefused as refused:
        if refused.code == _EXISTS:
            raise BackupRefused(f"there is a backup {name} in {target}, whole or not: choose another name") from None
        raise


def _bring(server: Warehouse, content: str, target: Target, name: str, part: str) -> None:
    place, params = target.part(name, part)
    _done(server, f"RESTORE {content} FROM {place} ASYNC", params)


def _done(server: Warehouse, statement: str, params: Mapping[str, Any]) -> int:
    """Have the server do it, however long it takes; returns the bytes. Raises ``WarehouseRefused`` if it fails."""
    ((number, _),) = server.rows(statement, params)
    while True:
        ((state, error, size),) = server.rows(named("backup_state"), {"id": number})
        if state in {"BACKUP_CREATED", "RESTORED"}:
            return int(size)
        if error:
            code = _CODE.match(error)
            raise WarehouseRefused(error.partition(", Stack trace")[0], int(code[1]) if code else 0)
        time.sleep(_LOOK_S)


@contextmanager
def _server(warehouse: Warehouse) -> Iterator[Warehouse]:
    """The server, without the database, which may not exist."""
    with closing(
        Warehouse(urlsplit(warehouse.url)._replace(path="").geturl(), timeout_s=warehouse.timeout_s)
    ) as server:
        yield server
