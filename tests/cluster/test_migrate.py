"""Migrations of a cluster: every node is brought there, a new disk too, and what a cluster cannot do is refused."""

from __future__ import annotations

from contextlib import closing

import pytest

from deploy.proving.rig.cluster import Cluster
from tests.support.waiting import wait_until
from warehouse.storage import migrate as migrate_module
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import MigrationError
from warehouse.storage.migrate import Migration, migrate, migrations

pytestmark = pytest.mark.timeout(300)
ROWS = (
    "SELECT name, total_rows FROM system.tables "
    "WHERE database = currentDatabase() AND engine LIKE 'Replicated%%' AND name != 'migrations'"
)
NOTED = "CREATE TABLE IF NOT EXISTS noted (n UInt64) ENGINE = MergeTree ORDER BY n;"


def test_later_migration_reaches_every_node_or_is_refused(many: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrations()
    alters = f"{NOTED} ALTER TABLE flattrs ADD COLUMN IF NOT EXISTS more UInt8;"
    monkeypatch.setattr(migrate_module, "migrations", lambda: [*known, Migration(9000, "9000_tried", alters)])
    assert [one.number for one in migrate(many)] == [9000]
    assert migrate(many) == []
    for node in many.topology.nodes:
        with closing(Warehouse(many.url, topology=many.topology.server(node))) as one:
            assert one.rows("SELECT sum(more) FROM flattrs") == [(0,)]
            assert "ReplicatedMergeTree" in one.rows("SHOW CREATE TABLE noted")[0][0]
    moves = [*known, Migration(9000, "9000_tried", alters), Migration(9001, "9001_moves", "DROP TABLE noted")]
    monkeypatch.setattr(migrate_module, "migrations", lambda: moves)
    with pytest.raises(MigrationError, match=r"cannot migrate by itself.*DROP TABLE"):
        migrate(many)
    many.command("ALTER TABLE migrations DELETE WHERE number = 9000")
    many.command("ALTER TABLE flattrs DROP COLUMN more")
    many.command_everywhere("DROP TABLE noted SYNC")


def test_new_disk_gets_its_tables_and_rows_from_the_others(many: Warehouse, cluster: Cluster) -> None:
    victim, neighbour, *_ = cluster.nodes
    names = "SELECT table, replica_name, replica_path FROM system.replicas WHERE database = currentDatabase()"
    with closing(Warehouse(many.url, topology=many.topology.server(("127.0.0.1", victim.port)))) as one:
        before = one.rows(ROWS, {})
        replicas = one.rows(names)
    victim.kill()
    victim.lose_disk()
    with closing(Warehouse(many.url, topology=many.topology.server(("127.0.0.1", neighbour.port)))) as other:
        alive = "SELECT max(active_replicas < total_replicas) FROM system.replicas WHERE table = 'seals'"
        wait_until(lambda: other.rows(alive) == [(1,)], "the coordinator missed it")
        for _, replica, path in replicas:
            other.command(f"SYSTEM DROP REPLICA '{replica}' FROM ZKPATH '{path.rpartition('/replicas/')[0]}'")
    victim.start()
    migrate(many)
    many.sync()
    with closing(Warehouse(many.url, topology=many.topology.server(("127.0.0.1", victim.port)))) as one:
        assert dict(one.rows(ROWS, {})) == dict(before)
