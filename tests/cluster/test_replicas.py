"""A node that is away, takes no rows, lacks tables or stays behind is told: by the API's metrics and by the doctor."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from pydantic import SecretStr

from deploy.cli.doctor import warehouse as doctor_module
from deploy.cli.doctor.findings import State, examine
from deploy.cli.doctor.warehouse import look_at_warehouse
from deploy.proving.rig.cluster import Cluster, Node
from deploy.stack.embedded import HOST
from ingest.runtime.clock import system_clock
from tests.cluster.conftest import guarded
from tests.support.serving import ask, serving
from tests.support.waiting import wait_until
from warehouse.api import replica_monitor
from warehouse.api.app import create_app
from warehouse.api.settings import ApiSettings
from warehouse.storage import replicas as replicas_module
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseRefused
from warehouse.storage.migrate import migrate

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, cluster_rig: type[Cluster]) -> Cluster:
    """One shard of two replicas. A test brings back what it breaks."""
    return cluster_rig(tmp_path_factory.mktemp("replicas"), shards=1, secret="between the nodes")


@pytest.fixture(scope="module")
def urls(rig: Cluster) -> Iterator[dict[str, str]]:
    with guarded(rig) as urls:
        with closing(Warehouse(urls["migrate"])) as migrator:
            migrate(migrator)
        yield urls


@pytest.fixture
def api(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The read API by the rights of an installation, which looks more often."""
    monkeypatch.setattr(replica_monitor, "_EVERY_S", 0.1)
    with serving(create_app(ApiSettings(warehouse=SecretStr(urls["api"])))) as url:
        yield url


def shown(api: str) -> dict[str, dict[int, float]]:
    """What the metrics of replicas say, by name and port of the node."""
    text = ask(f"{api}/metrics").body.decode()
    found: dict[str, dict[int, float]] = {}
    line = r'^flattr_warehouse_replica_(\w+)\{node="[^"]+:(\d+)"\} (.+)$'
    for name, port, value in re.findall(line, text, re.MULTILINE):
        found.setdefault(name, {})[int(port)] = float(value)
    return found


def examined(urls: dict[str, str], node: Node) -> str:
    """What `flattr doctor api` finds wrong with a node."""
    found = examine({"warehouse": partial(look_at_warehouse, urls["api"], system_clock, "api", 3)}, 30)
    return "\n".join(
        f"{one.about}: {one.found} -> {one.to_do}"
        for one in found
        if one.state is State.WRONG and one.about.endswith(f"warehouse {HOST}:{node.port}")
    )


def is_well(api: str, rig: Cluster, tables: int) -> bool:
    ports = [node.port for node in rig.nodes]
    return shown(api) == {
        "up": dict.fromkeys(ports, 1.0),
        "tables": dict.fromkeys(ports, float(tables)),
        "readonly_tables": dict.fromkeys(ports, 0.0),
        "delay_seconds": dict.fromkeys(ports, 0.0),
    }


@pytest.fixture(scope="module")
def tables(rig: Cluster, urls: dict[str, str]) -> int:  # noqa: ARG001 - they are made there
    """How many replicated tables there are, as one who may do everything sees it."""
    with closing(Warehouse(f"clickhouse://{rig.nodes[0].address}/default")) as admin:
        ((number,),) = admin.rows("SELECT count() FROM system.replicas WHERE database = 'flattr'")
    return int(number)


@pytest.fixture(autouse=True)
def around(api: str, rig: Cluster, urls: dict[str, str], tables: int) -> Iterator[None]:
    """Before and after each test both say that nothing is wrong."""
    wait_until(lambda: is_well(api, rig, tables), "every node follows")
    assert [examined(urls, node) for node in rig.nodes] == ["", ""]
    yield
    wait_until(lambda: is_well(api, rig, tables), "every node follows again")
    assert [examined(urls, node) for node in rig.nodes] == ["", ""]


@pytest.mark.parametrize("number", [0, 1])
def test_a_node_that_died_or_stands_still_is_named_and_makes_no_scrape_wait(
    rig: Cluster, api: str, urls: dict[str, str], number: int
) -> None:
    victim = rig.nodes[number]
    other = rig.nodes[1 - number]
    victim.kill()
    wait_until(lambda: shown(api)["up"] == {victim.port: 0, other.port: 1}, "the dead one is away")
    assert "does not answer" in examined(urls, victim)
    assert examined(urls, other) == ""
    victim.start()
    assert victim.process is not None
    wait_until(lambda: shown(api)["up"][victim.port] == 1, "it is back")
    victim.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: shown(api)["up"] == {victim.port: 0, other.port: 1}, "the one that stands still is away")
        began = time.monotonic()
        shown(api)
        # That is what its queries of the pipeline may take. Prometheus waits for five seconds.
        assert time.monotonic() - began < 4
        assert "does not answer" in examined(urls, victim)
    finally:
        victim.process.send_signal(signal.SIGCONT)


def test_tables_that_take_no_rows_are_told_of_every_node_that_has_lost_the_coordinator(
    rig: Cluster, api: str, urls: dict[str, str], tables: int
) -> None:
    rig.coordinator.kill()
    everywhere = {node.port: float(tables) for node in rig.nodes}
    wait_until(lambda: shown(api)["readonly_tables"] == everywhere, "they are read-only")
    assert shown(api)["up"] == dict.fromkeys(everywhere, 1)
    said = examined(urls, rig.nodes[1])
    assert "read-only: " in said
    assert "identity_key" in said, "which the API may not read"
    rig.coordinator.start()


def test_a_table_that_stays_behind_is_named(
    rig: Cluster, api: str, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (replicas_module, doctor_module):
        monkeypatch.setattr(module, "BEHIND_S", 0)
    first, second = rig.nodes
    with (
        closing(Warehouse(f"clickhouse://{first.address}/flattr")) as ahead,
        closing(Warehouse(f"clickhouse://{second.address}/flattr")) as behind,
    ):
        behind.command("SYSTEM STOP FETCHES log_partitions")
        ahead.insert("log_partitions", {"epoch": [250], "partitions": [3]})
        wait_until(lambda: shown(api)["delay_seconds"][second.port] > 0, "it is behind")
        assert shown(api)["delay_seconds"][first.port] == 0
        assert "behind for more than 0 s: log_partitions -> see docs" in examined(urls, second)
        assert examined(urls, first) == ""
        behind.command("SYSTEM START FETCHES log_partitions")


def test_a_new_disk_is_named_until_the_documented_commands_have_brought_its_tables(
    rig: Cluster, api: str, urls: dict[str, str], tables: int
) -> None:
    """As docs/runbooks.md has it."""
    first, second = rig.nodes
    second.kill()
    second.lose_disk()
    second.start()
    wait_until(lambda: shown(api)["tables"] == {first.port: tables, second.port: 0}, "its tables are missed")
    assert "missing: " in examined(urls, second)
    with closing(Warehouse(f"clickhouse://{first.address}/default")) as other:
        wait_until(lambda: forgot(other, second), "the coordinator believes in the old disk no more")
    with closing(Warehouse(urls["migrate"])) as migrator:
        migrate(migrator)


def forgot(other: Warehouse, node: Node) -> bool:
    """Both names: that of a shard's tables, and that of those which all nodes have."""
    try:
        for name in (node.name, f"{node.shard}-{node.name}"):
            other.command(f"SYSTEM DROP REPLICA '{name}' FROM DATABASE flattr")
    except WarehouseRefused as refused:
        assert "because it's active" in str(refused), refused
        return False
    return True
