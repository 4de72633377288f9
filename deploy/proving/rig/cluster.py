"""A ClickHouse cluster on this machine: ZooKeeper, and shards of replicas that are the engine of chdb-core.

For tests and chaos alone: nodes trust each other, and data lie in one folder. Starts in one to two seconds and takes
about 300 MB for each node.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self
from xml.etree import ElementTree as ET

from deploy.proving.rig.interserver import unsupported
from deploy.stack.embedded import HOST, ROOT, ServiceProcess, free_port

ZOOKEEPER_HOME: Final = ROOT / ".zookeeper"
#: The cluster's name in every node's configuration.
NAME: Final = "flattr"


class ClusterMissing(RuntimeError):
    """No cluster can be started here; the message is ``cluster_missing``'s reason."""


def cluster_missing() -> str | None:
    """Why no cluster can be started here, or None if it can. FLATTR_HIDE_CLUSTER=1 hides it."""
    if os.environ.get("FLATTR_HIDE_CLUSTER") == "1":
        return "the cluster is hidden by FLATTR_HIDE_CLUSTER"
    if not any((ZOOKEEPER_HOME / "libs").glob("zookeeper-*.jar")):
        return f"no Apache ZooKeeper in {ZOOKEEPER_HOME}: run `make zookeeper` (needs Java 17 and Maven)"
    if shutil.which("java") is None:
        return "no `java` on the PATH: Apache ZooKeeper needs Java 17"
    return unsupported()


class Coordinator(ServiceProcess):
    """The coordinator: one Apache ZooKeeper on a free port. What it knows survives kill -9."""

    def __init__(self, folder: Path) -> None:
        command = [
            "java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            # ClickHouse asks for nodes that live as long as something stands in them.
            "-Dzookeeper.extendedTypesEnabled=true",
            "-cp", f"{ZOOKEEPER_HOME / 'libs'}/*", "org.apache.zookeeper.server.ZooKeeperServerMain", "zoo.cfg",
        ]  # fmt: skip
        super().__init__("zookeeper", command, folder=folder, port=free_port())

    def launch(self) -> None:
        """Write the configuration, then start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "zoo.cfg").write_text(
            f"tickTime=500\ndataDir={self.folder}/data\nclientPort={self.port}\nclientPortAddress={HOST}\n"
            "maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=ruok\n"
            "minSessionTimeout=1000\nmaxSessionTimeout=60000\n"
        )
        super().launch()

    def is_ready(self) -> bool:
        """Ask it: the port is open before it serves."""
        with suppress(OSError), socket.create_connection((HOST, self.port), 0.3) as connection:
            connection.sendall(b"ruok")
            return connection.recv(4) == b"imok"
        return False


class Node(ServiceProcess):
    """One replica of a shard; both are numbered from 1."""

    def __init__(self, folder: Path, shard: int, replica: int, coordinator: Coordinator) -> None:
        self.shard = shard
        self.replica = replica
        self._coordinator = coordinator
        #: The disk that `flattr backup` writes to: one, which every node mounts.
        self.backups = folder / "backups"
        self._interserver_port = free_port()
        self.remote_servers = ""
        #: XML of the configuration beyond that.
        self.more = ""
        #: XML of users beside the one who may do everything.
        self.users = ""
        name = f"warehouse-{shard}-{replica}"
        command = [sys.executable, "-m", "deploy.proving.rig.serve_node", HOST, str(self._interserver_port)]
        super().__init__(name, command, folder=folder / name, port=free_port(), environment={"PYTHONPATH": str(ROOT)})

    def launch(self) -> None:
        """Write the configuration, then start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.xml").write_text(self._config())
        (self.folder / "users.xml").write_text(_USERS.replace("<users>", f"<users>{self.users}"))
        super().launch()

    def lose_disk(self) -> None:
        """Delete all data of a node that does not run."""
        shutil.rmtree(self.folder / "data")

    def _config(self) -> str:
        # Sessions lie apart: every engine has the same, empty server id, and would end the others' sessions.
        return f"""<clickhouse>
  <listen_host>{HOST}</listen_host>
  <tcp_port>{self.port}</tcp_port>
  <http_port>{self._interserver_port}</http_port>
  <interserver_http_host>{HOST}</interserver_http_host>
  <interserver_http_port>{self._interserver_port}</interserver_http_port>
  <logger><level>warning</level><log>server.log</log><errorlog>server.err.log</errorlog></logger>
  <users_config>users.xml</users_config>
  <storage_configuration><disks><backups>
    <type>local</type><path>{self.backups.resolve()}/</path>
  </backups></disks></storage_configuration>
  <backups><allowed_disk>backups</allowed_disk></backups>
  <mark_cache_size>67108864</mark_cache_size>
  <background_schedule_pool_size>16</background_schedule_pool_size>
  <background_pool_size>4</background_pool_size>
  <background_fetches_pool_size>4</background_fetches_pool_size>
  <background_common_pool_size>4</background_common_pool_size>
  {_installed("merge_tree")}
  <zookeeper>
    <node><host>{HOST}</host><port>{self._coordinator.port}</port></node>
    <sessions_path>/clickhouse/sessions/{self.name}</sessions_path>
    <session_timeout_ms>4000</session_timeout_ms>
    <operation_timeout_ms>4000</operation_timeout_ms>
  </zookeeper>
  <keeper_map_path_prefix>/flattr/keeper_map</keeper_map_path_prefix>
  <macros><cluster>{NAME}</cluster><shard>{self.shard}</shard><replica>{self.name}</replica></macros>
  <remote_servers>{self.remote_servers}</remote_servers>
  {self.more}
</clickhouse>
"""


def _installed(element: str) -> str:
    """What the configuration of an installation's nodes says."""
    said = ET.parse(ROOT / "deploy/images/clickhouse/cluster/config.xml").getroot().find(element)  # noqa: S314 - our file
    return ET.tostring(said, "unicode").strip() if said is not None else ""


_USERS: Final = f"""<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password>
    <networks><ip>{HOST}</ip></networks>
    <profile>default</profile><quota>default</quota>
    <access_management>1</access_management>
  </default></users>
</clickhouse>
"""


class Cluster:
    """A coordinator and ``shards`` x ``replicas`` nodes in ``folder``; a context manager that starts and stops them."""

    def __init__(self, folder: Path, *, shards: int = 2, replicas: int = 2, users: str = "", secret: str = "") -> None:
        if reason := cluster_missing():
            raise ClusterMissing(reason)
        #: With it nodes ask each other as the user who asked them; without, as one who may do everything.
        self._secret = secret
        self.coordinator = Coordinator(folder / "zookeeper")
        self.shards = [
            [Node(folder, shard, replica, self.coordinator) for replica in range(1, replicas + 1)]
            for shard in range(1, shards + 1)
        ]
        for node in self.nodes:
            node.remote_servers = self._remote_servers()
            node.users = users

    @property
    def nodes(self) -> list[Node]:
        """All nodes, shard by shard."""
        return [node for shard in self.shards for node in shard]

    @property
    def url(self) -> str:
        """The URL for ``FLATTR_WAREHOUSE``, without a database."""
        hosts = "+".join(",".join(node.address for node in shard) for shard in self.shards)
        return f"clickhouse://{hosts}"

    def start(self) -> Self:
        """Start everything and wait until it can be used. Raises ``ServiceFailed``."""
        self.coordinator.start()
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()
        return self

    def stop(self) -> None:
        """Stop every process. Nodes first: they would wait for a coordinator that is gone."""
        for part in self._processes():
            part.kill()

    def _processes(self) -> Iterator[ServiceProcess]:
        yield from self.nodes
        yield self.coordinator

    def _remote_servers(self) -> str:
        shards = "".join(
            "<shard><internal_replication>true</internal_replication>"
            + "".join(f"<replica><host>{HOST}</host><port>{node.port}</port></replica>" for node in shard)
            + "</shard>"
            for shard in self.shards
        )
        return f"<{NAME}>{f'<secret>{self._secret}</secret>' * bool(self._secret)}{shards}</{NAME}>"

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
