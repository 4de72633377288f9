"""A month of a cluster leaves shard by shard, and comes back; its files are those of one server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.proving.rig.cluster import Cluster
from tests.archive.build import ALL, MONTH, books, fill, rows
from tests.cluster.filled import clear, copy, tables
from tests.support.waiting import wait_until
from warehouse.archive.archive import archive, restore
from warehouse.archive.notes import notes
from warehouse.archive.tables import TABLES, staging
from warehouse.erasure.erase import erase
from warehouse.payout.audit.verify import verify_month
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseUnavailable
from warehouse.storage.placement import here
from warehouse.storage.settings import BackupSettings

pytestmark = pytest.mark.timeout(300)
SETTINGS = BackupSettings()


class Died(Exception):
    pass


def dying_after(step: str) -> Callable[[str], None]:
    def die(done: str) -> None:
        if done == step:
            raise Died

    return die


@pytest.fixture
def closed(warehouse: Warehouse, cluster_url: str) -> Iterator[Warehouse]:
    """The cluster with three closed months, the same as the one server's."""
    fill(warehouse)
    with closing(Warehouse(cluster_url)) as many:
        copy(warehouse, many)
        yield many
        clear(many, tables(warehouse).keys() - {"migrations", "identity_key"})


def left_on_nodes(many: Warehouse) -> int:
    """Rows of the month, and staging tables, on any node."""
    left = 0
    for node in many.topology.nodes:
        with closing(Warehouse(many.url, topology=many.topology.server(node))) as one:
            left += sum(one.rows(f"SELECT count() FROM {here(table)} WHERE month = {MONTH}")[0][0] for table in TABLES)
            left += one.rows(
                "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name IN %(names)s",
                {"names": [name for table in TABLES for name in (staging(table), here(staging(table)))]},
            )[0][0]
    return left


def told(folder: Path) -> dict[str, object]:
    """What the manifest says of each table's rows."""
    files = json.loads((folder / "2026-10" / "manifest.json").read_text())["files"]
    return {table: (file["columns"], file["rows"], file["digest"]) for table, file in files.items()}


def test_month_leaves_every_node_and_comes_back_whatever_died_on_the_way(
    warehouse: Warehouse, closed: Warehouse, cluster: Cluster, tmp_path: Path
) -> None:
    before = [rows(closed, month) for month in ALL], books(closed)
    assert all(rows(closed)[table] for table in TABLES)
    victim = cluster.nodes[-1]

    def kill_one(step: str) -> None:
        if step == "written":
            victim.kill()

    # Every replica has to answer: without one nothing leaves.
    with pytest.raises(WarehouseUnavailable):
        archive(closed, MONTH, str(tmp_path / "many"), SETTINGS, step_done=kill_one)
    victim.start()

    def archived(step: str) -> bool:
        try:
            archive(closed, MONTH, str(tmp_path / "many"), SETTINGS, step_done=dying_after(step))
        except WarehouseUnavailable:  # it is not back yet
            return False
        return True

    with pytest.raises(Died):
        wait_until(lambda: archived("dropped counts_by_thing"), "the replica is back")
    assert notes(closed)[MONTH].state == "leaving"
    archive(closed, MONTH, str(tmp_path / "many"), SETTINGS)
    assert left_on_nodes(closed) == 0
    assert books(closed) == before[1]
    with pytest.raises(Died):
        restore(closed, MONTH, SETTINGS, step_done=dying_after("replaced counts_by_thing"))
    restore(closed, MONTH, SETTINGS)
    assert ([rows(closed, month) for month in ALL], books(closed)) == before
    for month in ALL:
        assert verify_month(closed, month).problems == []
    archive(warehouse, MONTH, str(tmp_path / "one"), SETTINGS)
    assert told(tmp_path / "one") == told(tmp_path / "many")


def test_member_who_was_erased_meanwhile_does_not_come_back(closed: Warehouse, tmp_path: Path) -> None:
    archive(closed, MONTH, str(tmp_path), SETTINGS)
    erase(closed, "mia", 4, log_days=1, settle_s=0)
    restore(closed, MONTH, SETTINGS)
    named = "SELECT countIf(member_id = 'mia'), count() FROM {} WHERE month = %(month)s"
    assert [closed.rows(named.format(table), {"month": MONTH}) for table in ("duplicates", "undos")] == [
        [(0, 3)],
        [(0, 2)],
    ]
    assert closed.rows(named.format("flattrs"), {"month": MONTH})[0][0] > 0
