"""Whoever outgrows one server brings its backup into a cluster, and misses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.cli.commands.backup import stages
from deploy.proving.rig.cluster import Cluster
from deploy.stack.embedded import HOST, EmbeddedBroker, EmbeddedWarehouse
from tests.cluster.conftest import guarded
from tests.cluster.filled import OCTOBER, SEPTEMBER, fill, tables
from tests.cluster.test_backup import command, killed_after, rows
from tests.e2e.test_backup import TARGET, comes_back, planned
from tests.security.test_roles import PASSWORD, ROLES, GuardedWarehouse
from tests.support.waiting import wait_until
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.proof import stored
from warehouse.storage.backup import back_up, backups
from warehouse.storage.backup_target import BackupRefused
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import MigrationError
from warehouse.storage.migrate import migrate
from warehouse.storage.restore import restore

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Rig:
    """One server and a cluster that share the place of backups, each with the users of an installation."""

    one: EmbeddedWarehouse
    many: Cluster
    urls: dict[str, str]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, cluster_rig: type[Cluster]) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("outgrown")
    one = GuardedWarehouse(folder / "one")
    one.environment |= {f"FLATTR_DB_PASSWORD_{role.upper()}": PASSWORD for role in ROLES}
    many = cluster_rig(folder / "many", secret="between the nodes")
    one.backups = many.nodes[0].backups
    with one, guarded(many) as urls:
        yield Rig(one, many, urls)


def sums(warehouse: Warehouse, columns: dict[str, list[str]]) -> dict[str, tuple[object, ...]]:
    """Of each table, how many rows of which hashes; without what a lock or a backup writes itself."""
    return {
        table: warehouse.rows(f"SELECT count(), sum(cityHash64({', '.join(names)})) FROM {table} SETTINGS final = 1")[0]
        for table, names in columns.items()
        if table not in {"locks", "backups"}
    }


def test_a_backup_of_one_server_becomes_a_cluster_whatever_is_killed_on_the_way(rig: Rig) -> None:
    """Of every table there are rows; the commands have the rights of an installation."""
    with closing(Warehouse(f"{rig.one.url}/default")) as admin:
        admin.command("CREATE DATABASE flattr")
    as_role = {
        role: Warehouse(f"clickhouse://flattr_{role}:{PASSWORD}@{HOST}:{rig.one.port}/flattr")
        for role in ("migrate", "backup")
    }
    migrate(as_role["migrate"])
    with closing(Warehouse(f"{rig.one.url}/flattr")) as one:
        fill(one)
        with locked(as_role["backup"], CLOSE) as held:
            made = back_up(held, TARGET, "outgrown", stages())
        columns = tables(one)
        before = sums(one, columns)
        sealed = {month: stored(one, month) for month in (SEPTEMBER, OCTOBER)}
    for warehouse in as_role.values():
        warehouse.close()
    assert all(count for count, _ in before.values())
    assert all(sealed.values())

    migrator = Warehouse(rig.urls["migrate"])
    for line in ("rest", "rows of flattrs", "rows of progress", "views"):
        killed_after(command(migrator, "restore", "outgrown"), f"restored {line}")
        with pytest.raises(MigrationError, match="was interrupted: run `flattr restore` again"):
            migrate(migrator)
    with pytest.raises(BackupRefused, match="no whole backup"):
        restore(migrator, TARGET, "nothing", stages())
    done = command(migrator, "restore", "outgrown")
    said, problems = done.communicate(timeout=200)
    assert done.returncode == 0, problems
    for name in ("2026-09", "2026-10"):
        assert f"{name}: sealed, and every line agrees" in said

    many_url = f"{rig.many.url}/flattr?cluster=flattr"
    with closing(Warehouse(many_url)) as many:
        assert sums(many, columns) == before
        for month, proof in sealed.items():
            assert stored(many, month) == proof
            assert verify_month(many, month).clean
        assert made in backups(many)
    first, second, third, fourth = rows(rig.many)
    assert first == second
    assert third == fourth
    assert first != third
    assert migrate(migrator) == []
    migrator.close()


def test_rows_whose_time_has_come_stay_until_they_were_compared(rig: Rig) -> None:
    """Some leave at any moment in an installation of some months; nothing but the engine says when."""
    expired = "SELECT 'rejected', number, '2020-01-01' FROM numbers(9)"
    with closing(Warehouse(f"{rig.one.url}/old")) as one:
        migrate(one)
        with locked(one, CLOSE) as held:
            back_up(held, TARGET, "old", stages())
    counts = []

    with closing(Warehouse(f"{rig.many.url}/old?cluster=flattr")) as many:
        first = many.topology.server(many.topology.nodes[0], "old")

        def merged(part: str) -> None:
            with closing(Warehouse(many.url, topology=first)) as node:
                if part == "rows of adjustments":
                    node.command(f"INSERT INTO old_model.rejected (topic, position, stored_at) {expired}")
                if part == "rows of rejected":
                    for table in ("old_model.rejected", "old.rejected_here"):
                        node.command(f"OPTIMIZE TABLE {table} FINAL")
                        counts.extend(node.rows(f"SELECT count() FROM {table}"))

        restore(many, TARGET, "old", stages(), after=merged)
        assert counts == [(9,), (9,)]
        with closing(Warehouse(many.url, topology=first)) as node:
            node.command("OPTIMIZE TABLE rejected_here FINAL")
        wait_until(lambda: many.rows("SELECT count() FROM rejected") == [(0,)], "they leave after that")


def test_what_the_log_has_beyond_the_backup_is_counted_into_the_cluster(
    rig: Rig, embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    plan = planned(tmp_path, embedded_broker, f"{rig.one.url}/counted", topic)
    comes_back(plan, rig.one.kill, tmp_path, into=f"{rig.many.url}/counted?cluster=flattr")
