"""Where backups are, and how ClickHouse is told to write them there and to bring them back, on each shard at once."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from ingest.runtime.setting_error import SettingError
from warehouse.storage.client import Warehouse, named
from warehouse.storage.errors import WarehouseError, WarehouseRefused, WarehouseUnavailable
from warehouse.storage.settings import BackupSettings

#: Codes of ClickHouse: there is a backup of this name.
_EXISTS: Final = 598
_CODE: Final = re.compile(r"Code: (\d+)")
_LOOK_S: Final = 0.1


class BackupRefused(WarehouseError):
    """What was asked for would lose or mix something; the message says what to do instead."""


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


@dataclass(frozen=True)
class Shard:
    """A shard at one node that stays the same. ``folder`` is where a backup has its part; empty for one server."""

    server: Warehouse
    folder: str = ""


def copy(contents: Sequence[tuple[Shard, str]], target: Target, name: str, part: str) -> int:
    """Have each shard copy its content, all at once; returns the size in bytes. Raises ``BackupRefused``."""
    try:
        return _done(contents, "BACKUP {content} TO {place} ASYNC", target, name, part)
    except WarehouseRefused as refused:
        if refused.code == _EXISTS:
            raise BackupRefused(f"there is a backup {name} in {target}, whole or not: choose another name") from None
        raise


def bring(contents: Sequence[tuple[Shard, str]], target: Target, name: str, part: str) -> None:
    """Have each shard bring its content back, all at once. Raises ``WarehouseRefused``."""
    _done(contents, "RESTORE {content} FROM {place} ASYNC", target, name, part)


def _done(contents: Sequence[tuple[Shard, str]], statement: str, target: Target, name: str, part: str) -> int:
    begun = []
    for shard, content in contents:
        place, params = target.part(name, f"{shard.folder}{part}")
        ((number, _),) = shard.server.rows(statement.format(content=content, place=place), params)
        begun.append((shard.server, number))
    return sum(_waited(server, number) for server, number in begun)


def _waited(server: Warehouse, number: str) -> int:
    """However long it takes; returns the bytes. Raises ``WarehouseRefused`` if it fails."""
    while True:
        state, error, size = next(iter(server.rows(named("backup_state"), {"id": number})), ("", "", 0))
        if not state:
            raise WarehouseUnavailable(
                "The server was started again meanwhile, and what it was asked to copy is not whole"
            )
        if state in {"BACKUP_CREATED", "RESTORED"}:
            return int(size)
        if error:
            code = _CODE.match(error)
            raise WarehouseRefused(error.partition(", Stack trace")[0], int(code[1]) if code else 0)
        time.sleep(_LOOK_S)
