"""A connection that outlived its node is no shortcut around catching up."""

from __future__ import annotations

from contextlib import closing

import pytest
from clickhouse_driver import Client

from deploy.proving.rig.cluster import Cluster
from tests.support.waiting import wait_until
from warehouse.storage import client as client_module
from warehouse.storage.client import Warehouse


def test_node_that_came_back_catches_up_before_it_is_asked_again(
    many: Warehouse, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught_up: list[Client] = []
    catch_up = client_module._catch_up

    def noted(client: Client) -> None:
        caught_up.append(client)
        catch_up(client)

    monkeypatch.setattr(client_module, "_catch_up", noted)
    first = cluster.nodes[0]
    with closing(Warehouse(many.url)) as warehouse:
        for _ in range(2):
            assert warehouse.rows("SELECT 1") == [(1,)]
        assert len(caught_up) == 1
        first.kill()
        first.start()
        assert warehouse.rows("SELECT 1") == [(1,)]
        assert len(caught_up) == 2
        first.kill()
        first.start()
        warehouse.insert("log_partitions", {"epoch": [200], "partitions": [3]})
        assert len(caught_up) == 3


def test_node_that_started_without_its_coordinator_is_back_soon_after_it(many: Warehouse, cluster: Cluster) -> None:
    first = cluster.nodes[0]
    cluster.coordinator.kill()
    try:
        first.kill()
        first.start()
    finally:
        cluster.coordinator.start()
    with closing(Warehouse(f"clickhouse://{first.address}/{many.database}")) as alone:
        waiting = "SELECT count() FROM system.replicas WHERE database = currentDatabase() AND is_readonly"
        assert alone.rows(waiting) != [(0,)], "its tables did not wait for the coordinator: this tries nothing"
        wait_until(lambda: alone.rows(waiting) == [(0,)], "the node is back", timeout_s=20)
