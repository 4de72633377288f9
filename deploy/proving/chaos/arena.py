"""The stack under test: its processes, the links between them, its clock, and the faults that can be injected.

One thread must own an arena, as a service dies with the thread that launched it. Only ``start``, ``heal`` and
``stop`` block. Everything else that takes time is finished by ``tick``, which is called many times a second and
restarts services that are down, as a supervisor does in production.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiokafka.errors import KafkaError

from deploy.proving.chaos.proxy import Mode, Proxies, Proxy
from deploy.proving.chaos.schedule import Targets
from deploy.proving.chaos.store import Store
from deploy.provision.topics import TopicPlan, create_topics, rejected_plan
from deploy.stack.embedded import ROOT, ServiceFailed, ServiceProcess, free_port
from deploy.stack.kafka_cluster import KafkaNode, cluster
from ingest.contract.month import month_of
from ingest.runtime.clock import system_clock, write_clock_file
from ingest.runtime.tokens import keygen
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate

TICK_S: Final = 0.05
_READY_TIMEOUT_S: Final = 90.0
_RELAUNCH_AFTER_S: Final = 0.3
#: A service that dies by itself more often is broken, and the run ends.
_EXITS_MAX: Final = 20


def plain_command(service: str) -> list[str]:
    """The command that starts a service. Tests that break a guarantee on purpose pass another."""
    return [sys.executable, "-m", "deploy", service]


@dataclass(frozen=True)
class ArenaPlan:
    """What to start. ``brokers`` is 1, or 3 with replication 3 and min.insync.replicas 2.

    The warehouse is one server, or ``shards`` of ``replicas``.
    """

    folder: Path
    brokers: int = 1
    shards: int = 1
    replicas: int = 1
    workers: int = 2
    partitions: int = 4
    grace_s: int = 5
    settle_s: int = 15
    #: The clock's initial time in ms, shortly before the end of a month.
    begin_ms: int = 0
    command: Callable[[str], list[str]] = plain_command
    environment: Mapping[str, str] = field(default_factory=dict)


class Served(ServiceProcess):
    """One of our services, ready when ``/ready`` says so."""

    def __init__(
        self, name: str, command: Sequence[str], *, folder: Path, port: int, environment: dict[str, str]
    ) -> None:
        super().__init__(name, command, folder=folder, port=port, environment={**environment, "PYTHONPATH": str(ROOT)})

    def is_ready(self) -> bool:
        """Ask ``/ready``."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@dataclass(frozen=True)
class Exit:
    """A process that exited by itself."""

    at: float
    service: str
    code: int
    tail: str


class Arena:
    """All services of one run; a context manager that starts and stops them."""

    def __init__(self, plan: ArenaPlan, say: Callable[[str], None] = lambda _: None) -> None:
        self.plan = plan
        self.say = say
        self.folder = plan.folder.resolve()
        self.proxies = Proxies()
        self.links: dict[str, Proxy] = {f"kafka-{number + 1}": self.proxies.before(0) for number in range(plan.brokers)}
        self.nodes: list[KafkaNode] = cluster(self.folder, [link.port for link in self.links.values()])
        self.store = Store(self.folder, plan.shards, plan.replicas)
        self.services: dict[str, ServiceProcess] = {node.name: node for node in self.nodes}
        self.services |= {service.name: service for service in self.store.services}
        for node, link in zip(self.nodes, list(self.links.values()), strict=True):
            link.target = node.port
        self.broker = ",".join(link.address for link in self.links.values())
        self.warehouse_url = self.store.url
        self.token_keys = self.folder / "token-keys.json"
        self.clock_file = self.folder / "clock"
        self.spool = self.folder / "spool"
        self.exits: list[Exit] = []
        self._base_ms = plan.begin_ms - system_clock()
        self._down_until: dict[str, float] = {}
        self._paused: set[str] = set()
        self._ending: set[str] = set()

    # -- its services

    @property
    def targets(self) -> Targets:
        """What faults can target."""
        return Targets(
            brokers=[node.name for node in self.nodes],
            ingest=[name for name in self.services if name.startswith("ingest")],
            streams=[name for name in self.services if name.startswith("streams")],
            warehouse=[service.name for service in self.store.services],
            links=list(self.links),
        )

    @property
    def urls(self) -> tuple[str, ...]:
        """Ingest's addresses."""
        return tuple(f"http://{self.services[name].address}/v1/clicks" for name in self.targets.ingest)

    @property
    def clock_setting(self) -> str:
        """``FLATTR_CLOCK`` for every service."""
        return f"file:{self.clock_file}"

    def environment(self, warehouse_url: str = "") -> dict[str, str]:
        """The environment of every service."""
        return {
            "FLATTR_BROKER": self.broker,
            "FLATTR_WAREHOUSE": warehouse_url or self.warehouse_url,
            "FLATTR_CLOCK": self.clock_setting,
            "FLATTR_GRACE_S": str(self.plan.grace_s),
            "FLATTR_TOKEN_KEYS": str(self.token_keys),
            "FLATTR_CLOSE_SETTLE_S": str(self.plan.settle_s),
            "FLATTR_CLOSE_STAMPS_BOUNDED": "false",
            "FLATTR_CLOSE_DRAIN_TIMEOUT_S": "2",
            "FLATTR_CLOSE_CLAIM_REQUIRED": "false",
            # Months of made-up clicks have sizes by chance, and nobody is here to look at outliers.
            "FLATTR_CLOSE_OUTLIER_FLATTRS_MIN": str(1 << 30),
            "FLATTR_CLOSE_OUTLIER_EARNED_MIN_MINOR": str(1 << 30),
            "FLATTR_INGEST_PRODUCE_TIMEOUT_S": "3",
            "FLATTR_INGEST_SPOOL": str(self.spool),
            "FLATTR_STREAMS_SESSION_TIMEOUT_S": "4",
            **self.plan.environment,
        }

    # -- its clock

    def now_ms(self) -> int:
        """The arena's time in ms, without the clock steps of faults."""
        return system_clock() + self._base_ms

    def month(self) -> int:
        """The current month in the arena."""
        return month_of(self.now_ms())

    def move_clock_to(self, at_ms: int) -> None:
        """Set the clock of all services."""
        self._base_ms = at_ms - system_clock()
        write_clock_file(self.clock_file, self._base_ms)

    def step_clock(self, by_ms: int) -> None:
        """Step the clock of all services, replacing any earlier step."""
        write_clock_file(self.clock_file, self._base_ms + by_ms)

    # -- its life

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises ``ServiceFailed``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_clock_file(self.clock_file, self._base_ms)
        keygen(self.token_keys, algorithm="HS256", kid="1")
        for service in self.store.services:
            service.launch()
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(KafkaNode.prepare, self.nodes))
        for node in self.nodes:
            node.launch()
        for service in self.store.services:
            service.wait_ready()
        with closing(Warehouse(self.warehouse_url)) as warehouse:
            migrate(warehouse)
        for node in self.nodes:
            node.wait_ready()
        self._make_topics()
        for number in range(1, self.plan.workers + 1):
            self._add_service("ingest", f"ingest-{number}", self.warehouse_url)
            linked = self.store.linked_url(self.links, self.proxies, f"{number}")
            self._add_service("streams", f"streams-{number}", linked)
        self.wait_ready()

    def stop(self) -> None:
        """Kill everything, services first."""
        for name in list(self._paused):
            self.resume(name)
        for name in reversed(self.services):
            self.services[name].kill()
        self.proxies.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def tick(self) -> None:
        """Restart services that are down. Raises ``ServiceFailed`` when one keeps dying."""
        now = time.monotonic()
        for name, service in self.services.items():
            if service.running():
                continue
            if name not in self._down_until:
                self._down_until[name] = now + _RELAUNCH_AFTER_S
                if name not in self._ending:
                    self._note_exit(name, service)
            if now >= self._down_until[name]:
                del self._down_until[name]
                self._ending.discard(name)
                service.launch()

    def heal(self) -> None:
        """End every fault and wait until all services are ready. Raises ``ServiceFailed``."""
        for link in self.links.values():
            link.set(Mode.PASS)
        self.step_clock(0)
        for name in list(self._paused):
            self.resume(name)
        for name in self.targets.ingest:
            self.free_disk(name)
        self._down_until = dict.fromkeys(self._down_until, 0.0)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait for all services, restarting those that die. Raises ``ServiceFailed``."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while waiting := [
            name for name, service in self.services.items() if not (service.running() and service.is_ready())
        ]:
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{', '.join(waiting)} not ready in time.\n{self.services[waiting[0]].tail()}")
            self.tick()
            time.sleep(TICK_S)

    # -- faults

    def kill(self, name: str, for_s: float) -> None:
        """Kill -9; restart after ``for_s``."""
        self._ending.add(name)
        self._paused.discard(name)
        self.services[name].kill()
        self._down_until[name] = time.monotonic() + for_s

    def end(self, name: str) -> None:
        """SIGTERM; restart when it has exited."""
        process = self.services[name].process
        if process is not None:
            self._ending.add(name)
            process.send_signal(signal.SIGTERM)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        process = self.services[name].process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            self._paused.add(name)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        process = self.services[name].process
        self._paused.discard(name)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)

    def fill_disk(self, name: str) -> None:
        """Make every file write of a service fail as on a full disk, through its file size limit."""
        self._limit_files(name, 0)

    def free_disk(self, name: str) -> None:
        """Lift that limit."""
        self._limit_files(name, resource.RLIM_INFINITY)

    def _limit_files(self, name: str, size_bytes: int) -> None:
        process = self.services[name].process
        if process is not None and process.poll() is None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    def add_worker(self) -> str:
        """Start another stream worker in the group; returns its name."""
        name = f"guest-{1 + sum(service.startswith('guest') for service in self.services)}"
        self._add_service("streams", name, self.warehouse_url)
        return name

    def remove_worker(self, name: str) -> None:
        """Kill -9 an extra worker, without a restart."""
        self.services.pop(name).kill()
        self._down_until.pop(name, None)

    def command(self, name: str, arguments: Sequence[str]) -> ServiceProcess:
        """Launch a `flattr` command with the arena's settings; the caller manages the process."""
        service = ServiceProcess(
            name, [sys.executable, "-m", "deploy", *arguments], folder=self.folder / name, port=0,
            environment={**self.environment(), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        service.launch()
        return service

    def _note_exit(self, name: str, service: ServiceProcess) -> None:
        code = service.process.returncode if service.process else 0
        self.exits.append(Exit(time.time(), name, code, service.tail()))
        self.say(f"{name} exited by itself with code {code}\n{service.tail()}")
        if sum(exit_.service == name for exit_ in self.exits) > _EXITS_MAX:
            raise ServiceFailed(f"{name} exited by itself more than {_EXITS_MAX} times.\n{service.tail()}")

    def _add_service(self, service: str, name: str, warehouse_url: str) -> None:
        port = free_port()
        environment = self.environment(warehouse_url) | {f"FLATTR_{service.upper()}_PORT": str(port)}
        started = Served(
            name, self.plan.command(service), folder=self.folder / name, port=port, environment=environment
        )
        self.services[name] = started
        started.launch()

    def _make_topics(self) -> None:
        """Create the topics, with retries, since the cluster may still be electing a leader."""
        replication = min(3, self.plan.brokers)
        topics = [TopicPlan("clicks", self.plan.partitions, replication), rejected_plan("rejected", replication)]
        plans = [topic.unbounded() for topic in topics]
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                asyncio.run(create_topics(self.broker, plans))
            except (KafkaError, RuntimeError) as error:
                if time.monotonic() > deadline:
                    raise ServiceFailed(f"cannot create topics: {error}\n{self.nodes[0].tail()}") from error
                time.sleep(0.3)
            else:
                return
