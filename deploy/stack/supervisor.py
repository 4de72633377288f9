"""The whole stack on one machine under a supervisor: broker, warehouse, ingest, streams and api.

``Stack`` starts broker and warehouse first, then the services, all with the same broker, warehouse and clock. It
restarts what died, each part by itself (restart.py). It stops services before broker and warehouse, so that ingest can
drain and streams can flush.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from deploy.provision.topics import TopicPlan, create_topics, rejected_plan
from deploy.stack.embedded import (
    HOST,
    ROOT,
    ApacheKafka,
    EmbeddedBroker,
    EmbeddedWarehouse,
    ServiceFailed,
    ServiceProcess,
    free_port,
)
from deploy.stack.restart import Restart, reason_of
from deploy.stack.running import remove_environment, write_environment
from ingest.contract.position import EPOCH_MAX
from ingest.runtime.tokens import keygen
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate
from warehouse.storage.topology import masked


@dataclass(frozen=True)
class StackPlan:
    """What to start, and where. Port 0 means any free port.

    ``broker`` (host:port) and ``warehouse`` (clickhouse://...) replace the embedded ones; with ``kafka`` the broker is
    Apache Kafka, whose log is in the folder and survives.
    """

    folder: Path = Path(".flattr")
    broker: str | None = None
    warehouse: str | None = None
    kafka: bool = False
    partitions: int = 4
    topic_clicks: str = "clicks"
    topic_rejected: str = "rejected"
    clock: str = "system"
    grace_s: int = 3600
    broker_port: int = 0
    warehouse_port: int = 0
    warehouse_http_port: int = 0
    ingest_port: int = 0
    streams_port: int = 0
    api_port: int = 0
    environment: dict[str, str] = field(default_factory=dict)


class Service(ServiceProcess):
    """One of our services, ready when ``/ready`` says so."""

    def __init__(self, name: str, *, folder: Path, port: int, environment: dict[str, str]) -> None:
        super().__init__(
            name,
            [sys.executable, "-m", "deploy", name],
            folder=folder,
            port=port,
            environment={**environment, "PYTHONPATH": str(ROOT)},
        )

    @property
    def url(self) -> str:
        """The address of the service."""
        return f"http://{self.address}"

    def is_ready(self) -> bool:
        """Ask ``/ready``."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=2) as answer:  # noqa: S310 - always http
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class Stack:
    """All services of one plan; a context manager that starts and stops them.

    ``say`` gets each event as one line. Raises ``ServiceFailed`` when a service cannot start.
    """

    def __init__(self, plan: StackPlan, say: Callable[[str], None] = print) -> None:
        self.plan = plan
        self.say = say
        self.folder = plan.folder.resolve()
        self.services: dict[str, Service] = {}
        self.broker: EmbeddedBroker | ApacheKafka | None = None
        self.warehouse: EmbeddedWarehouse | None = None
        self.broker_address = plan.broker or ""
        self.warehouse_url = plan.warehouse or ""
        self.epoch = 0
        self._restarts: list[tuple[str, Restart]] = []
        self._lock: IO[str] | None = None

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

    @property
    def ingest(self) -> Service:
        """The ingest service."""
        return self.services["ingest"]

    @property
    def api(self) -> Service:
        """The read API."""
        return self.services["api"]

    @property
    def token_keys(self) -> Path:
        """The file of token keys; created on the first start."""
        return self.folder / "token-keys.json"

    def start(self) -> None:
        """Start everything, in order."""
        self._take_folder()
        self._start_broker()
        self._start_warehouse()
        made = asyncio.run(create_topics(self.broker_address, self._topics()))
        with closing(Warehouse(self.warehouse_url)) as warehouse:
            applied = migrate(warehouse)
            self.epoch = self._next_epoch(warehouse)
        self.say(f"topics     {', '.join(made) or 'already present'}; {len(applied)} migrations applied")
        self._make_keys()
        for name, port in self._ports().items():
            service = Service(name, folder=self.folder / name, port=port, environment=self.environment())
            self.services[name] = service
        for service in self.services.values():
            service.environment |= self._addresses()
            service.launch()
        for service in self.services.values():
            service.wait_ready()
            self.say(f"{service.name:<10} {service.url}   log {self._shown(service.log)}")
        everything = (self.broker, self.warehouse, *self.services.values())
        self._restarts = [(part.name, Restart(part, self.say)) for part in everything if part is not None]
        write_environment(self.folder, self.environment() | self._addresses())

    def environment(self) -> dict[str, str]:
        """The environment variables of every service."""
        embedded = {"FLATTR_INGEST_IDEMPOTENCE": "false"} if self._forgets else {}
        return {
            "FLATTR_BROKER": self.broker_address,
            "FLATTR_WAREHOUSE": self.warehouse_url,
            "FLATTR_TOPIC_CLICKS": self.plan.topic_clicks,
            "FLATTR_TOPIC_REJECTED": self.plan.topic_rejected,
            "FLATTR_CLOCK": self.plan.clock,
            "FLATTR_GRACE_S": str(self.plan.grace_s),
            "FLATTR_LOG_EPOCH": str(self.epoch),
            "FLATTR_TOKEN_KEYS": str(self.token_keys),
            "FLATTR_INGEST_SPOOL": str(self.folder / "ingest" / "spool"),
            **embedded,
            "FLATTR_CLOSE_STAMPS_BOUNDED": str(not self._forgets and self.plan.clock == "system").lower(),
            **self.plan.environment,
        }

    @property
    def _forgets(self) -> bool:
        """Whether the log is in the broker's memory, and the broker lacks what Apache Kafka has."""
        return isinstance(self.broker, EmbeddedBroker)

    def watch(self) -> Iterator[str]:
        """Look at every part once, start what died and is due, and yield the names of those that have just come back.

        Call it several times a second; it does not wait. Raises ``ServiceFailed`` when a broker died whose log was in
        memory.
        """
        if self._forgets and self.broker is not None and not self.broker.running():
            raise ServiceFailed(
                f"the embedded broker {reason_of(self.broker)}, and the clicks in its memory are lost. Start again, or "
                f"keep the log with `flattr up --kafka`.\n{self.broker.tail()}"
            )
        for name, restart in self._restarts:
            if restart.look():
                yield name

    def stop(self) -> None:
        """Stop everything in order. Idempotent."""
        for part in (self.services.get("ingest"), self.services.get("streams"), self.services.get("api")):
            if part is not None:
                part.stop()
        for embedded in (self.warehouse, self.broker):
            if embedded is not None:
                embedded.stop()
        if self._lock is not None:
            remove_environment(self.folder)
            self._lock.close()
            self._lock = None

    def _take_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceFailed(
                f"another stack is running in {self._shown(self.folder)}: stop it, or choose another folder with --data"
            ) from None

    def _start_broker(self) -> None:
        if self.plan.broker:
            self.say(f"broker     {self.broker_address} (yours)")
            return
        self._same_kind_of_log()
        port = self.plan.broker_port or None
        if self.plan.kafka:
            self.broker = ApacheKafka(self.folder / "kafka", port=port).start()
            kind = "Apache Kafka, data in " + self._shown(self.folder / "kafka")
        else:
            self.broker = EmbeddedBroker(self.folder / "broker", port=port).start()
            kind = "embedded, in memory"
        self.broker_address = self.broker.address
        self.say(f"broker     {self.broker_address} ({kind})")

    def _same_kind_of_log(self) -> None:
        """Raise ``ServiceFailed`` if the folder's clicks are in a log of the other kind: offsets would not continue."""
        has_kafka, has_rows = (self.folder / "kafka" / "data").exists(), (self.folder / "warehouse" / "data").exists()
        if has_kafka and not self.plan.kafka:
            raise ServiceFailed(
                f"the log of {self._shown(self.folder)} is in Apache Kafka: add --kafka, or choose another folder with "
                "--data"
            )
        if has_rows and self.plan.kafka and not has_kafka and self.plan.warehouse is None:
            raise ServiceFailed(
                f"{self._shown(self.folder)} was filled from the embedded broker: leave out --kafka, or choose another "
                "folder with --data"
            )

    def _start_warehouse(self) -> None:
        if self.plan.warehouse:
            self.say(f"warehouse  {masked(self.warehouse_url)} (yours)")
            return
        self.warehouse = EmbeddedWarehouse(
            self.folder / "warehouse",
            port=self.plan.warehouse_port or None,
            http_port=self.plan.warehouse_http_port or None,
        ).start()
        self.warehouse_url = f"{self.warehouse.url}/flattr"
        self.say(f"warehouse  {self.warehouse_url} (embedded)")
        self.say(f"           http://{HOST}:{self.warehouse.http_port} for SQL")

    def _next_epoch(self, warehouse: Warehouse) -> int:
        """The log epoch: an embedded broker restarts its offsets, so it is the warehouse's newest plus one."""
        if not self._forgets:
            return int(self.plan.environment.get("FLATTR_LOG_EPOCH", "0"))
        ((newest, partitions),) = warehouse.rows("SELECT max(bitShiftRight(position, 56)), count() FROM progress")
        epoch = int(newest) + 1 if partitions else 0
        if epoch > EPOCH_MAX:
            raise ServiceFailed(
                f"{self._shown(self.folder)} has seen {EPOCH_MAX} restarts of the embedded broker: delete the folder"
            )
        return epoch

    def _topics(self) -> list[TopicPlan]:
        plan = self.plan
        topics = [TopicPlan(plan.topic_clicks, plan.partitions), rejected_plan(plan.topic_rejected)]
        return topics if plan.clock == "system" else [topic.unbounded() for topic in topics]

    def _ports(self) -> dict[str, int]:
        plan = self.plan
        wanted = {"ingest": plan.ingest_port, "streams": plan.streams_port, "api": plan.api_port}
        return {name: port or free_port() for name, port in wanted.items()}

    def _addresses(self) -> dict[str, str]:
        ports = {f"FLATTR_{name.upper()}_PORT": str(service.port) for name, service in self.services.items()}
        # The live page shows whether the other services are ready.
        others = {name: f"{service.url}/ready" for name, service in self.services.items() if name != "api"}
        return {
            **ports,
            "FLATTR_API_PARTS": json.dumps(others),
            "FLATTR_API_INGEST": self.services["ingest"].url,
            "FLATTR_API_VERIFY_LOG": "true",
        }

    def _make_keys(self) -> None:
        if not self.token_keys.exists():
            keygen(self.token_keys, algorithm="HS256", kid="1")

    def _shown(self, path: Path) -> str:
        try:
            return str(path.relative_to(Path.cwd()))
        except ValueError:
            return str(path)
