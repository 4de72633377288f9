"""A cluster comes back from a backup, whatever dies meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.cli.commands.backup import stages
from deploy.proving.rig.cluster import Cluster, Node
from deploy.stack.embedded import ROOT, EmbeddedBroker
from tests.cluster.test_seals import fill
from tests.e2e.test_backup import TARGET, comes_back, planned
from tests.payout.test_close import close
from tests.support.waiting import wait_until
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.proof import stored
from warehouse.storage.backup import back_up, backups
from warehouse.storage.backup_target import BackupRefused
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import MigrationError, WarehouseError, WarehouseUnavailable
from warehouse.storage.migrate import migrate
from warehouse.storage.restore import restore

pytestmark = pytest.mark.timeout(420)
SEALED, OPEN = 202609, 202610


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, cluster_rig: type[Cluster]) -> Iterator[Cluster]:
    """A cluster of its own: it loses everything."""
    with cluster_rig(tmp_path_factory.mktemp("lost")) as started:
        yield started


@pytest.fixture(scope="module")
def filled(rig: Cluster) -> Iterator[Warehouse]:
    """A closed month and an open one."""
    with closing(Warehouse(f"{rig.url}/flattr?cluster=flattr")) as warehouse:
        migrate(warehouse)
        fill(warehouse, SEALED)
        close(warehouse, SEALED)
        fill(warehouse, OPEN)
        yield warehouse


def rows(rig: Cluster) -> list[list[tuple[object, ...]]]:
    """How many rows of which hash each node has of every table; what a lock or a backup writes itself is left out."""
    found = []
    for node in rig.nodes:
        with closing(Warehouse(f"clickhouse://{node.address}/flattr")) as server:
            tables = server.rows(
                "SELECT name FROM system.tables WHERE database = 'flattr' AND engine LIKE 'Replicated%%' "
                "AND name NOT IN ('locks', 'backups') ORDER BY name", {},
            )  # fmt: skip
            hashed = "SELECT count(), sum(cityHash64(*)) FROM {} SETTINGS final = 1"
            found.append([(name, *server.rows(hashed.format(name))[0]) for (name,) in tables])
    return found


def lose(rig: Cluster) -> None:
    """Every disk is gone; what the coordinator knows, and the backups, are not."""
    for node in rig.nodes:
        node.kill()
        node.lose_disk()
    for node in rig.nodes:
        node.launch()
    for node in rig.nodes:
        node.wait_ready()


def command(warehouse: Warehouse, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "FLATTR_WAREHOUSE": warehouse.url, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "deploy", *arguments], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def killed_after(process: subprocess.Popen[str], line: str) -> None:
    """Kill -9 once it has said this."""
    assert process.stderr is not None
    said = []
    for text in process.stderr:
        said.append(text)
        if text.startswith(line):
            break
    else:
        pytest.fail("".join(said))
    process.kill()
    process.communicate(timeout=30)


def test_lost_cluster_comes_back_with_its_seal_and_every_row_on_every_node(rig: Cluster, filled: Warehouse) -> None:
    """Backup and restore are killed with -9 on the way, and begun again."""
    killed_after(command(filled, "backup", "half"), "copied counts")
    wait_until(lambda: free(filled), "the lock is free")
    with locked(filled, CLOSE) as held:
        made = back_up(held, TARGET, "whole", stages(), after=lambda part: behind(rig) if part == "progress" else None)
    wait_until(lambda: (now := rows(rig))[0] == now[1] and now[2] == now[3], "every replica has everything")
    sealed, before = stored(filled, SEALED), rows(rig)
    assert before[0] != before[2]
    lose(rig)
    filled.close()

    for refused in ("half", "nothing"):
        with pytest.raises(BackupRefused, match="no whole backup"):
            restore(filled, TARGET, refused, stages())
    for line in ("rest", "progress", "replicas"):
        killed_after(command(filled, "restore", "whole"), f"restored {line}")
        with pytest.raises(MigrationError, match="was interrupted: run `flattr restore` again"):
            migrate(filled)
    done = command(filled, "restore", "whole")
    said, problems = done.communicate(timeout=200)
    assert done.returncode == 0, problems
    assert "2026-09: sealed, and every line agrees" in said
    assert [set(now) ^ set(then) for now, then in zip(rows(rig), before, strict=True)] == [set()] * 4
    assert stored(filled, SEALED) == sealed
    assert verify_month(filled, SEALED).clean
    assert backups(filled) == [made]
    assert migrate(filled) == []
    with pytest.raises(BackupRefused, match=r"goes into an empty one. Stop all services, .* on each, and run"):
        restore(filled, TARGET, "whole", stages())


def free(warehouse: Warehouse) -> bool:
    try:
        with locked(warehouse, CLOSE):
            return True
    except WarehouseError:
        return False


def behind(rig: Cluster) -> None:
    """A flattr that the replica which copies has not fetched yet, for a second: `progress` may speak for it."""
    copies, has = rig.shards[0]
    on(copies, "SYSTEM STOP FETCHES flattrs_here")
    on(has, f"INSERT INTO flattrs_here (month, member_id, thing_id) SELECT {OPEN}, 'mia', randomFixedString(16)")
    threading.Timer(1, on, (copies, "SYSTEM START FETCHES flattrs_here")).start()


def on(node: Node, statement: str) -> None:
    with closing(Warehouse(f"clickhouse://{node.address}/flattr")) as server:
        server.command(statement)


def test_replica_that_dies_during_a_backup_costs_that_backup_and_the_next_one_goes_to_another(
    rig: Cluster, filled: Warehouse
) -> None:
    dies = rig.shards[1][0]
    with locked(filled, CLOSE) as held, pytest.raises(WarehouseUnavailable):
        back_up(held, TARGET, "dying", stages(), after=lambda part: dies.kill() if part == "progress" else None)
    with locked(filled, CLOSE) as held:
        made = back_up(held, TARGET, "next", stages())
    assert backups(filled)[-1] == made
    dies.start()


def test_disks_that_nodes_do_not_share_are_no_place_for_a_clusters_backup(
    rig: Cluster, filled: Warehouse, tmp_path: Path
) -> None:
    alone = rig.nodes[3]
    shared, alone.backups = alone.backups, tmp_path
    alone.kill()
    alone.start()
    with locked(filled, CLOSE) as held, pytest.raises(BackupRefused, match=f"is not one place: .*:{alone.port} does"):
        back_up(held, TARGET, "apart", stages())
    alone.backups = shared
    alone.kill()
    alone.start()


def test_shards_that_the_servers_do_not_know_of_are_refused(rig: Cluster) -> None:
    nodes = "+".join(node.address for node in rig.nodes[:3])
    with (
        closing(Warehouse(f"clickhouse://{nodes}/other?cluster=flattr")) as many,
        pytest.raises(BackupRefused, match="FLATTR_WAREHOUSE has 3 shards, and the servers"),
    ):
        restore(many, TARGET, "whole", stages())


def test_what_the_log_has_beyond_a_clusters_backup_is_counted_again(
    rig: Cluster, embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    plan = planned(tmp_path, embedded_broker, f"{rig.url}/counted?cluster=flattr", topic)
    comes_back(plan, lambda: lose(rig), tmp_path)
