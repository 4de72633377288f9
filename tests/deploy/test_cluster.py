"""docker-compose.cluster.yml: its files agree, and nodes with its users, secrets and certificates are worked with."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from deploy.proving.rig.cluster import Cluster
from deploy.provision.cluster_users import CLUSTER_USERS
from deploy.provision.secret_files import SERVICES as SECRETS
from deploy.provision.secret_files import WAREHOUSE_CA, init
from deploy.stack.embedded import HOST, ROOT, free_port
from tests.support.compose import COMPOSE, SERVICES, env_file
from tests.warehouse.test_tls import serve
from warehouse.storage.client import Warehouse

CLUSTER: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.cluster.yml").read_text())
OVER: dict[str, dict[str, Any]] = CLUSTER["services"]
CONFIG = ET.parse(ROOT / "deploy/images/clickhouse/cluster/config.xml").getroot()
NODES = {name: service for name, service in OVER.items() if "FLATTR_NODE" in service.get("environment", {})}
HOSTS: str = OVER["secrets"]["command"][-1]


def test_nodes_are_the_same_in_compose_in_their_configuration_and_in_everybody_s_address() -> None:
    shards = CONFIG.findall("remote_servers/flattr/shard")
    told = "+".join(",".join(one.text or "" for one in shard.findall("replica/host")) for shard in shards)
    assert told == HOSTS
    assert {shard.findtext("internal_replication") for shard in shards} == {"true"}
    assert {(one.findtext("port"), one.findtext("secure")) for one in CONFIG.findall(".//replica[host]")} == {
        (CONFIG.findtext("tcp_port_secure"), "1")
    }
    stated = {
        service["environment"]["FLATTR_NODE"]: service["environment"]["FLATTR_SHARD"] for service in NODES.values()
    }
    assert stated == {
        host: str(number) for number, shard in enumerate(HOSTS.split("+"), 1) for host in shard.split(",")
    }
    allowed = re.compile(CONFIG.findtext("remote_url_allow_hosts/host_regexp") or "")
    assert all(allowed.search(host) for host in stated)
    for name, service in NODES.items():
        host = service["environment"]["FLATTR_NODE"]
        assert host in {name, *service["networks"]["default"].get("aliases", ())}
        # Prometheus finds every node by the one server's name.
        assert name == "clickhouse" or "clickhouse" in service["networks"]["default"]["aliases"]
        assert name == "clickhouse" or f"{name}:/var/lib/clickhouse" in service["volumes"]
        assert name == "clickhouse" or service["extends"] == {"file": "docker-compose.yml", "service": "clickhouse"}
        mounted = {entry.split(":")[1] for entry in service["volumes"]}
        assert "/etc/clickhouse-server/users.d/flattr.xml" in mounted, "or it would have the users of one server"
    volumes = {entry.split(":")[0] for one in OVER.values() for entry in one.get("volumes", []) if entry[0] != "."}
    assert volumes == set(CLUSTER["volumes"])


def test_coordinators_are_three_and_nobody_but_clickhouse_reaches_them() -> None:
    names = [one.text for one in CONFIG.findall("zookeeper/node/host")]
    assert names == [name for name in OVER if name.startswith("zookeeper-")]
    assert {host for one in names if one for host in re.findall(r"=(zookeeper-\d):", _servers(one))} == set(names)
    assert [OVER[name or ""]["environment"]["ZOO_MY_ID"] for name in names] == ["1", "2", "3"]
    reached = {name for name, one in OVER.items() if "coordinators" in one.get("networks", ())}
    assert reached == {*names, *NODES}
    assert CLUSTER["networks"]["coordinators"] == {"internal": True}
    (tested,) = re.findall(
        r"<artifactId>zookeeper</artifactId>\s*<version>(\d+\.\d+\.\d+)<",
        (ROOT / "deploy/images/zookeeper/pom.xml").read_text(),
    )
    assert {OVER[name or ""]["image"] for name in names} == {f"zookeeper:{tested}"}


def _servers(name: str) -> str:
    return str(OVER[name]["environment"]["ZOO_SERVERS"])


def test_every_service_that_asks_the_warehouse_has_the_authority_that_its_address_names() -> None:
    (secret,) = CLUSTER["secrets"]
    assert f"/run/secrets/{secret}" == WAREHOUSE_CA
    ours = {name for name, one in SERVICES.items() if one["image"].startswith("flattr:")}
    asks = {
        name for name in ours
        for entry in SERVICES[name].get("env_file", [])
        if SECRETS.get(Path(entry["path"]).stem, (None, None))[1]
    }  # fmt: skip
    assert {name for name, one in OVER.items() if "warehouse_ca" in one.get("secrets", ())} == asks
    assert COMPOSE["secrets"]["broker_ca"] == CLUSTER["secrets"][secret]


@contextmanager
def behind_tls(port: int, target: int, folder: Path) -> Iterator[None]:
    """A listener with the nodes' certificate, for the engine here has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "node.pem", folder / "key.pem")
    with socket.create_server((HOST, port)) as listener:
        thread = threading.Thread(target=serve, args=(listener, context, target), daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory, cluster_rig: type[Cluster]) -> Iterator[Path]:
    """Four nodes as the files say, but for names and ports; what `flattr secrets init --cluster` makes for them."""
    folder = tmp_path_factory.mktemp("cluster")
    users = CLUSTER_USERS.read_text().partition("<users>")[2].partition("</users>")[0]
    rig = cluster_rig(folder / "rig", users=users)
    ports = {node.name.removeprefix("warehouse"): free_port() for node in rig.nodes}
    hosts = HOSTS
    for name, port in ports.items():
        hosts = hosts.replace(f"clickhouse{name}", f"localhost:{port}")
    init(folder / "secrets", cluster=hosts)
    own = folder / "secrets/clickhouse"
    servers = "".join(ET.tostring(one, "unicode") for one in CONFIG.findall("remote_servers/flattr"))
    for name, port in ports.items():
        servers = servers.replace(f"<host>clickhouse{name}</host><port>9440<", f"<host>localhost</host><port>{port}<")
    for node in rig.nodes:
        node.remote_servers = servers
        node.more = ET.tostring(CONFIG.find("openSSL"), "unicode").replace("/run/flattr/node", str(own))  # type: ignore[arg-type]  # it is there
        node.environment |= env_file(folder / "secrets/clickhouse.env")
    with rig, ExitStack() as listeners:
        for node in rig.nodes:
            listeners.enter_context(behind_tls(ports[node.name.removeprefix("warehouse")], node.port, own))
            with closing(Warehouse(f"clickhouse://{node.address}/default")) as admin:
                admin.command("CREATE DATABASE flattr")
        yield folder / "secrets"
        # They ask each other through the listeners, over connections that would stay.
        rig.stop()


def flattr(secrets: Path, service: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``docker compose run --rm SERVICE ARGUMENTS``."""
    environment = env_file(secrets / f"{service}.env")
    environment["FLATTR_WAREHOUSE"] = environment["FLATTR_WAREHOUSE"].replace(WAREHOUSE_CA, str(secrets / "ca.pem"))
    command = [sys.executable, "-m", "deploy", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.timeout(420)
def test_a_cluster_is_made_backed_up_and_asked_with_the_secrets_that_were_made_for_it(secrets: Path) -> None:
    command = SERVICES["migrate"]["command"]
    migrated = flattr(secrets, "migrate", *command)
    assert migrated.returncode == 0, migrated.stderr
    made = flattr(secrets, "backup", *SERVICES["backup"]["command"])
    assert made.returncode == 0, made.stderr
    assert flattr(secrets, "api", "backup", "--list").stdout.count("partitions, migration") == 1
    refused = flattr(secrets, "api", *command)
    assert refused.returncode != 0
    assert "Not enough privileges" in refused.stderr
