"""Archive and backup in a store that speaks S3: with ClickHouse's client, and with that of the command."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from deploy.cli.commands.backup import stages
from tests.archive.build import MONTH, books, fill, rows
from warehouse.archive.archive import archive, restore
from warehouse.archive.manifest import ArchiveRefused
from warehouse.storage.backup import back_up
from warehouse.storage.backup_target import Target
from warehouse.storage.client import Warehouse
from warehouse.storage.restore import restore as bring_back
from warehouse.storage.settings import BackupSettings


@pytest.fixture
def settings(bucket: str) -> BackupSettings:
    """Settings of a folder of its own in the bucket."""
    url = urlsplit(bucket)
    place = f"s3:{url.scheme}://{url.hostname}:{url.port}{url.path.rstrip('/')}/{uuid.uuid4().hex}"
    return BackupSettings(
        backup_to=place, backup_s3_key_id=SecretStr(url.username or ""), backup_s3_secret=SecretStr(url.password or "")
    )


def test_month_leaves_for_a_store_and_comes_back(warehouse: Warehouse, settings: BackupSettings) -> None:
    fill(warehouse)
    before = rows(warehouse), books(warehouse)
    server = settings.backup_to.rsplit("/", 2)[0]
    with pytest.raises(ArchiveRefused, match="does not take or give the archive's files"):
        archive(warehouse, MONTH, f"{server}/no-such-bucket/x", settings)
    assert (rows(warehouse), books(warehouse)) == before
    assert archive(warehouse, MONTH, settings.backup_to, settings).place == f"{settings.backup_to}/2026-10"
    assert not any(rows(warehouse).values())
    restore(warehouse, MONTH, settings)
    assert (rows(warehouse), books(warehouse)) == before


def test_backup_goes_to_a_store_and_comes_back(warehouse: Warehouse, settings: BackupSettings) -> None:
    fill(warehouse)
    before = rows(warehouse), books(warehouse)
    target = Target.of(settings)
    back_up(warehouse, target, "first", stages())
    warehouse.command(f"DROP DATABASE {warehouse.database} SYNC")
    warehouse.close()
    bring_back(warehouse, target, "first", stages())
    assert (rows(warehouse), books(warehouse)) == before
