"""A connection that outlived its node is no shortcut around catching up."""

from __future__ import annotations

from contextlib import closing

import pytest
from clickhouse_driver import Client

from deploy.proving.rig.cluster import Cluster
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
