"""One cluster of 2 x 2 nodes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from deploy.proving.rig.cluster import Cluster
from deploy.provision.cluster_users import CLUSTER_USERS
from tests.security.test_roles import PASSWORD, ROLES
from tests.support.waiting import wait_until
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseUnavailable
from warehouse.storage.migrate import migrate


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory, cluster_rig: type[Cluster]) -> Iterator[Cluster]:
    """Two shards of two replicas. A test that kills a node starts it again."""
    with cluster_rig(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="package")
def cluster_url(cluster: Cluster) -> str:
    """The URL of a migrated database of the cluster."""
    url = f"{cluster.url}/tried?cluster=flattr"
    with closing(Warehouse(url)) as warehouse:
        migrate(warehouse)
    return url


@contextmanager
def guarded(rig: Cluster) -> Iterator[dict[str, str]]:
    """Run a cluster with the users of cluster/users.xml; their URLs by role. Its database is there, and empty."""
    inner = CLUSTER_USERS.read_text().partition("<users>")[2].partition("</users>")[0]
    for node in rig.nodes:
        node.users = inner
        node.environment |= {f"FLATTR_DB_PASSWORD_{role.upper()}": PASSWORD for role in ROLES}
    with rig:
        for node in rig.nodes:
            with closing(Warehouse(f"clickhouse://{node.address}/default")) as admin:
                admin.command("CREATE DATABASE flattr")
        hosts = rig.url.removeprefix("clickhouse://")
        yield {role: f"clickhouse://flattr_{role}:{PASSWORD}@{hosts}/flattr?cluster=flattr" for role in ROLES}


#: What stands of a log and its clicks.
COUNTED = (
    "progress", "log_partitions", "log_moves", "flattrs", "retimed", "counts_by_member", "counts_by_creator",
    "counts_by_thing",
)  # fmt: skip


def emptied(warehouse: Warehouse) -> bool:
    """Whether all that was counted is gone, of which log ever: a replica that comes back refuses changes at first."""
    try:
        for table in COUNTED:
            warehouse.command(f"ALTER TABLE {table} DELETE WHERE 1")
    except WarehouseUnavailable:
        return False
    return True


@pytest.fixture
def many(cluster_url: str) -> Iterator[Warehouse]:
    """The cluster's database, without what a test before has counted in it."""
    with closing(Warehouse(cluster_url)) as warehouse:
        wait_until(lambda: emptied(warehouse), "every replica is back")
        yield warehouse
