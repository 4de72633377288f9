"""What FLATTR_WAREHOUSE may say: one server, one behind TLS, or a cluster."""

from __future__ import annotations

import pytest

from ingest.runtime.setting_error import SettingError
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseUnavailable
from warehouse.storage.placement import alters_shards, on_shard
from warehouse.storage.topology import Topology, masked

MANY = "clickhouses://flattr%40x:p%40ss@a:9441,b+c,d/flattr?cluster=flattr&ca=/run/ca.pem"


def test_one_server_is_one_node_without_any_settings_of_a_cluster() -> None:
    found = Topology.of("clickhouse://127.0.0.1/flattr")
    assert found == Topology(((("127.0.0.1", 9000),),), "flattr")
    assert found.settings == {}
    assert found.connection(found.nodes[0]).get("secure") is None
    assert Topology.of("clickhouse://u:p:q@[::1]:9/x") == Topology(((("::1", 9),),), "x", "u", "p:q")


def test_cluster_names_shards_replicas_and_the_ca() -> None:
    found = Topology.of(MANY)
    assert found.shards == ((("a", 9441), ("b", 9440)), (("c", 9440), ("d", 9440)))
    assert (found.user, found.password, found.database, found.cluster) == ("flattr@x", "p@ss", "flattr", "flattr")
    assert found.connection(("b", 9440))["ca_certs"] == "/run/ca.pem"
    assert masked(MANY) == MANY.replace("p%40ss", "***")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1", "must be clickhouse://"),
        ("clickhouse:///flattr", "must be clickhouse://"),
        ("clickhouse://u:secret@a,b/flattr", "a cluster, which has a name"),
        ("clickhouse://u:secret@a+b/flattr?cluster=x;y", "a cluster, which has a name"),
        ("clickhouse://u:secret@a/flattr?cluster=", "a cluster, which has a name"),
        ("clickhouse://u:secret@a/flattr?ca=/x", "must begin with clickhouses://"),
        ("clickhouse://u:secret@a/flattr?secure=1", "unknown option 'secure'"),
        ("clickhouse://u:secret@a:port/flattr", "is no host:port"),
        ("clickhouse://u:secret@a,,b/flattr?cluster=x", "is no host:port"),
    ],
)
def test_what_is_no_address_is_refused_and_shows_no_password(url: str, why: str) -> None:
    with pytest.raises(SettingError, match="FLATTR_WAREHOUSE") as refused:
        Warehouse(url)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


def test_statement_for_one_shard_names_its_part_of_the_tables_and_nothing_else() -> None:
    sql = "INSERT INTO pools_staging (pools) SELECT flattrs, x FROM flattrs -- FROM pools\n JOIN quarantined USING x"
    assert on_shard(sql) == (
        "INSERT INTO pools_staging_here (pools) SELECT flattrs, x FROM flattrs_here \n JOIN quarantined_here USING x"
    )
    assert on_shard("SELECT 1 FROM flattrs_after JOIN payouts") == "SELECT 1 FROM flattrs_after JOIN payouts"


@pytest.mark.parametrize(
    ("sql", "is_so"),
    [
        ("-- why\nALTER TABLE pools DROP", True),
        ("ALTER TABLE payouts DROP", False),
        ("SELECT 'ALTER TABLE pools'", False),
    ],
)
def test_shards_alter_their_part_of_sharded_tables_alone(sql: str, is_so: bool) -> None:  # noqa: FBT001
    assert alters_shards(sql) is is_so


def test_cluster_of_which_no_node_answers_is_unavailable() -> None:
    with pytest.raises(WarehouseUnavailable, match=r"cluster=x does not answer"):
        Warehouse("clickhouse://127.0.0.1:1,127.0.0.1:2/flattr?cluster=x").rows("SELECT 1")
