"""A lost warehouse comes back from a backup, and what the log has beyond it is counted again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.commands.backup import stages
from deploy.proving.traffic import Traffic, requests
from deploy.stack.embedded import ROOT, EmbeddedBroker, EmbeddedWarehouse
from deploy.stack.supervisor import Stack, StackPlan
from ingest.contract.month import month_after, month_text
from ingest.runtime.clock import system_clock, write_clock_file
from ingest.runtime.setting_error import SettingError
from tests.e2e.oracle import Oracle
from tests.e2e.test_journey import END_MS, MONTH, SETTINGS, TRAFFIC, check_close, get, post
from tests.support.commands import app
from tests.support.waiting import wait_until
from warehouse.payout.close.gate import read_tallies
from warehouse.payout.close.proof import stored
from warehouse.storage.backup import back_up, backups
from warehouse.storage.backup_target import BackupRefused, Target
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import MigrationError
from warehouse.storage.migrate import migrate
from warehouse.storage.restore import restore
from warehouse.storage.settings import BackupSettings

TARGET = Target("disk", "backups")
NEXT = month_after(MONTH)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedWarehouse]:
    """A server that a test may destroy."""
    with EmbeddedWarehouse(tmp_path / "server") as server:
        yield server


@pytest.fixture
def plan(embedded_broker: EmbeddedBroker, server: EmbeddedWarehouse, topic: str, tmp_path: Path) -> StackPlan:
    """All services, an hour before a month's end."""
    return planned(tmp_path, embedded_broker, f"{server.url}/flattr", topic)


def planned(tmp_path: Path, broker: EmbeddedBroker, warehouse: str, topic: str) -> StackPlan:
    """The same, on any warehouse."""
    write_clock_file(tmp_path / "clock", END_MS - 3_600_000 - system_clock())
    return StackPlan(
        folder=tmp_path / "stack",
        broker=broker.address,
        warehouse=warehouse,
        topic_clicks=topic,
        topic_rejected=f"{topic}-rejected",
        clock=f"file:{tmp_path / 'clock'}",
        grace_s=SETTINGS.grace_s,
        environment={"FLATTR_INGEST_IDEMPOTENCE": "false"},
    )


def send(stack: Stack, warehouse: Warehouse, traffic: Traffic, oracle: Oracle, month: int) -> None:
    """Send clicks, and wait until they are counted."""
    for request in requests(traffic):
        post(stack, request, oracle)
    wait_until(lambda: read_tallies(warehouse, month).accepted == oracle.accepted, "all counted", timeout_s=60)


def flattr(warehouse: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does."""
    environment = {**os.environ, "FLATTR_WAREHOUSE": warehouse, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deploy", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def lose(server: EmbeddedWarehouse) -> None:
    """The disk with the data is gone; the backups are on another."""
    server.kill()
    shutil.rmtree(server.folder / "data")
    server.start()


@pytest.mark.timeout(240)
def test_lost_warehouse_comes_back_with_its_seals_and_counts_what_came_after_the_backup(
    plan: StackPlan, server: EmbeddedWarehouse, tmp_path: Path
) -> None:
    comes_back(plan, lambda: lose(server), tmp_path)


def comes_back(plan: StackPlan, lose: Callable[[], None], tmp_path: Path, *, into: str = "") -> None:
    """A month is closed, clicks come in during a backup and after it, the warehouse is lost, and all is as it was.

    It comes back where it was, or ``into`` another warehouse.
    """
    assert plan.warehouse is not None
    closed, open_ = Oracle(), Oracle()
    small = replace(TRAFFIC, clicks=300)
    with Stack(plan, print) as stack, closing(Warehouse(stack.warehouse_url)) as warehouse:
        send(stack, warehouse, small, closed, MONTH)
        check_close(stack, warehouse, closed, tmp_path)
        sealed = stored(warehouse, MONTH)
        send(stack, warehouse, replace(small, seed=1), open_, NEXT)
        seeds = iter(range(2, 10))
        # Each part is of a later time than the one before it, and workers write in between.
        made = back_up(
            warehouse, TARGET, "monday", stages(),
            after=lambda _: send(stack, warehouse, replace(small, clicks=60, seed=next(seeds)), open_, NEXT),
        )  # fmt: skip
        assert made == backups(warehouse)[-1]
        send(stack, warehouse, replace(small, seed=10), open_, NEXT)
        at_loss = read_tallies(warehouse, NEXT)

    lose()
    plan = replace(plan, warehouse=into or plan.warehouse)
    done = flattr(str(plan.warehouse), "restore", "monday")
    assert done.returncode == 0, done.stderr
    assert f"{month_text(MONTH)}: sealed, and every line agrees" in done.stdout

    with Stack(plan, print) as stack, closing(Warehouse(stack.warehouse_url)) as warehouse:
        wait_until(lambda: read_tallies(warehouse, NEXT).accepted == open_.accepted, "counted again", timeout_s=60)
        assert stored(warehouse, MONTH) == sealed
        assert read_tallies(warehouse, NEXT) == at_loss
        for creator, flattrs in open_.flattrs_by_creator().items():
            answer = get(stack, f"/v1/creators/{creator}/counts", NEXT)
            assert answer["flattrs"] == flattrs, creator


class Killed(Exception):
    """Stands for kill -9: what a part leaves behind is on the server, not in this process."""


def dying_after(part: str) -> Callable[[str], None]:
    def after(done: str) -> None:
        if done == part:
            raise Killed

    return after


@pytest.mark.parametrize("part", ["progress", "counts", "flattrs", "rest"])
def test_backup_that_was_interrupted_is_none(warehouse: Warehouse, part: str) -> None:
    with pytest.raises(Killed):
        back_up(warehouse, TARGET, warehouse.database, stages(), after=dying_after(part))
    assert not backups(warehouse)
    warehouse.command(f"DROP DATABASE {warehouse.database} SYNC")

    with pytest.raises(BackupRefused, match="no whole backup"):
        restore(warehouse, TARGET, warehouse.database, stages())
    warehouse.command(f"CREATE DATABASE {warehouse.database}")


def test_restore_that_was_interrupted_anywhere_is_begun_again(warehouse: Warehouse) -> None:
    warehouse.insert("subscriptions_posted", {"month": [202601], "flattrs": [7]})
    back_up(warehouse, TARGET, warehouse.database, stages())
    query = "SELECT name, total_rows FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    tables = warehouse.rows(query)
    warehouse.command(f"DROP DATABASE {warehouse.database} SYNC")

    for part in ("whole", "rest", "flattrs", "counts", "progress"):
        with pytest.raises(Killed):
            restore(warehouse, TARGET, warehouse.database, stages(), after=dying_after(part))
        # Tables that are missing would be made empty, and counted into.
        with pytest.raises(MigrationError, match="was interrupted: run `flattr restore` again"):
            migrate(warehouse)
    restore(warehouse, TARGET, warehouse.database, stages())
    assert warehouse.rows(query) == tables


def test_restore_touches_no_database_that_has_tables(warehouse: Warehouse) -> None:
    back_up(warehouse, TARGET, warehouse.database, stages())
    with pytest.raises(BackupRefused, match="goes into an empty one"):
        restore(warehouse, TARGET, warehouse.database, stages())
    with pytest.raises(BackupRefused, match="choose another name"):
        back_up(warehouse, TARGET, warehouse.database, stages())


def test_list_of_no_backups_says_that_there_are_none(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.cli.commands.backup.warehouse", lambda: warehouse)
    told = CliRunner().invoke(app, ["backup", "--list"])
    assert (told.exit_code, told.stdout) == (0, "")
    assert told.stderr == "The warehouse knows of no backup.\n"


def test_name_of_a_backup_is_no_path(warehouse: Warehouse) -> None:
    for name in ("", "../x", "a/b", "a" * 65, "-rf", "a b", "a'b", "a\n"):
        with pytest.raises(BackupRefused, match="no name of a backup"):
            back_up(warehouse, TARGET, name, stages())


@pytest.mark.parametrize("to", ["", "disk", "disk:", "s3:", "s3:bucket", "ftp://x"])
def test_target_that_means_nothing_is_named(to: str) -> None:
    with pytest.raises(SettingError, match="FLATTR_BACKUP_TO"):
        Target.of(BackupSettings(backup_to=to))
