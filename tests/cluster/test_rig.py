"""The rig: nodes replicate, and what was acknowledged outlives a node."""

from __future__ import annotations

import pytest

from deploy.proving.rig.cluster import Cluster, Node
from tests.support.waiting import wait_until
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError

pytestmark = pytest.mark.timeout(300)
KEPT = (
    "CREATE TABLE kept (n UInt64) ENGINE = ReplicatedMergeTree('/flattr/kept/{shard}', '{replica}') ORDER BY n "
    "SETTINGS old_parts_lifetime = 1"
)
SYNCED = {"insert_quorum": "auto", "insert_quorum_timeout": 10_000}


def at(node: Node) -> Warehouse:
    return Warehouse(f"clickhouse://{node.address}/default", timeout_s=20)


def count(warehouse: Warehouse) -> int:
    try:
        return int(warehouse.rows("SELECT count() FROM kept")[0][0])
    except WarehouseError:
        return -1


def test_replicated_table_survives_a_killed_node(cluster: Cluster) -> None:
    (first, second), (other, _) = cluster.shards
    here, there, elsewhere = at(first), at(second), at(other)
    for warehouse in (here, there, elsewhere):
        warehouse.command(KEPT)
    here.command("INSERT INTO kept SELECT number FROM numbers(1000)", settings=SYNCED)
    assert (count(here), count(there), count(elsewhere)) == (1000, 1000, 0)
    second.kill()
    here.command("INSERT INTO kept SELECT number FROM numbers(500)")
    second.start()
    wait_until(lambda: count(there) == 1500, "the node caught up")
    for warehouse in (here, there, elsewhere):
        warehouse.command("DROP TABLE kept SYNC")
        warehouse.close()
