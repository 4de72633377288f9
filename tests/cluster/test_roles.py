"""ClickHouse's users on a cluster: each does its work on every node, and no more than on one server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from deploy.cli.commands.backup import stages
from deploy.proving.rig.cluster import Cluster
from deploy.provision.cluster_users import CLUSTER_USERS, USERS, cluster_users
from deploy.stack.embedded import ROOT
from tests.cluster.conftest import guarded
from tests.e2e.test_backup import TARGET
from tests.security.test_roles import (
    ROLES,
    allowed,
    as_role,
    test_a_wrong_password_opens_nothing,
    test_every_role_can_do_its_work,
    test_grafana_can_ask_what_its_dashboards_ask,
    test_no_role_can_do_what_is_not_its_work,
    test_one_role_moves_the_log_and_those_who_read_it_are_told,
)
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.storage.backup import back_up
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate
from warehouse.storage.native_columns import Column
from warehouse.storage.placement import SHARDED, here
from warehouse.storage.restore import restore

pytestmark = pytest.mark.timeout(420)
__all__ = [
    "as_role",
    "test_a_wrong_password_opens_nothing",
    "test_every_role_can_do_its_work",
    "test_grafana_can_ask_what_its_dashboards_ask",
    "test_no_role_can_do_what_is_not_its_work",
    "test_one_role_moves_the_log_and_those_who_read_it_are_told",
]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, cluster_rig: type[Cluster]) -> Iterator[dict[str, str]]:
    """By role. The nodes know each other by a secret, so that each asks the others as who asked it."""
    with guarded(cluster_rig(tmp_path_factory.mktemp("guarded"), secret="between the nodes")) as urls:
        yield urls


def test_rights_on_a_cluster_are_made_of_those_on_one_server() -> None:
    assert CLUSTER_USERS.read_text() == cluster_users(USERS.read_text())


def test_every_user_may_do_with_each_table_what_it_may_on_one_server_and_with_a_nodes_part_the_same(
    as_role: dict[str, Warehouse],
) -> None:
    decided = {
        line.partition(" ")[0]: line.partition(" ")[2]
        for line in (ROOT / "tests/security/rights.txt").read_text().splitlines()
    }
    assert decided.keys() > SHARDED.keys()
    found = {}
    for table in decided:
        for name in {table, here(table)}:
            each = {role: allowed(as_role[role], name) for role in sorted(ROLES) if role != "migrate"}
            found[name] = " ".join(f"{role}:{letters}" for role, letters in each.items() if letters)
    assert found == {name: given for table, given in decided.items() for name in {table, here(table)}}


def test_one_role_copies_the_cluster_and_another_brings_it_back(as_role: dict[str, Warehouse]) -> None:
    count: dict[str, Column] = {
        "month": [202611],
        "creator_id": ["ada"],
        "partition": [0],
        "flattrs": [3],
        "position": [1],
    }
    as_role["streams"].insert("counts_by_creator", count)
    with locked(as_role["backup"], CLOSE) as held:
        made = back_up(held, TARGET, "tuesday", stages())
    migrator = as_role["migrate"]
    shown = "SELECT * FROM creator_flattrs ORDER BY ALL"
    before = as_role["grafana"].rows(shown)
    for node in migrator.topology.nodes:
        with closing(Warehouse(migrator.url, topology=migrator.topology.server(node))) as server:
            server.command("DROP DATABASE flattr SYNC")
    assert restore(migrator, TARGET, "tuesday", stages()) == made
    assert migrate(migrator) == []
    assert before == as_role["grafana"].rows(shown) != []
