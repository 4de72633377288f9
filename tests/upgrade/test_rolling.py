"""The release before is upgraded under load, one process after the other: nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from deploy.cli.promises import check_answers
from deploy.proving.load.plan import LoadPlan
from deploy.proving.load.run import Load
from deploy.stack.embedded import ROOT, ApacheKafka, EmbeddedWarehouse, ServiceProcess, free_port
from ingest.runtime.tokens import keygen
from tests.support.waiting import wait_until
from warehouse.counts.equations import KafkaLog, check_log, check_warehouse, read_reached
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrations

PARTITIONS = 4
NAMES = ("streams-1", "streams-2", "ingest-1", "ingest-2")


class Process(ServiceProcess):
    """A service, by the code of a release; ready when `/ready` says so."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], code: Path) -> None:
        port = free_port()
        service = name.partition("-")[0]
        super().__init__(
            name, [sys.executable, "-m", "deploy", service], folder=folder / name, port=port,
            environment={**environment, f"FLATTR_{service.upper()}_PORT": str(port), "PYTHONPATH": str(code)},
        )  # fmt: skip

    def upgrade(self) -> None:
        """From now on it is started from the code that is tested."""
        self.environment["PYTHONPATH"] = str(ROOT)

    def knows_of_silence(self) -> bool:
        """Whether a worker has a metric that the release before did not have."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as answer:
            return b"flattr_streams_kafka_silent_seconds" in answer.read()

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class Installation:
    """Kafka, ClickHouse, two workers and two ingests of the release before, and what the operator does to them."""

    def __init__(self, folder: Path, kafka: ApacheKafka, warehouse: EmbeddedWarehouse, code: Path) -> None:
        keygen(folder / "keys.json", algorithm="HS256", kid="1")
        self.broker, self.warehouse_url, self.token_keys = (
            kafka.address,
            f"{warehouse.url}/flattr",
            folder / "keys.json",
        )
        self.environment = {
            "FLATTR_BROKER": self.broker,
            "FLATTR_WAREHOUSE": self.warehouse_url,
            "FLATTR_TOKEN_KEYS": str(self.token_keys),
        }
        self.flattr(code, "topics", "create", "--partitions", str(PARTITIONS))
        self.flattr(code, "warehouse", "migrate")
        self.processes = {name: Process(name, folder, self.environment, code) for name in NAMES}

    def flattr(self, code: Path, *arguments: str) -> str:
        """Give a command by the code of a release."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy", *arguments],
            env={**os.environ, **self.environment, "PYTHONPATH": str(code)}, cwd=code,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def roll(self, name: str, *, kill: bool) -> None:
        """Replace one process by the new version, under its old address."""
        process = self.processes[name]
        process.kill() if kill else process.stop()
        process.upgrade()
        process.start()


@pytest.fixture
def before(release_before: Path, own_kafka: ApacheKafka, tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        warehouse = stack.enter_context(EmbeddedWarehouse(tmp_path / "warehouse"))
        installation = Installation(tmp_path, own_kafka, warehouse, release_before)
        for process in installation.processes.values():
            stack.enter_context(process)
        yield installation


async def sums(warehouse: Warehouse, broker: str, answers: Path) -> None:
    """Everything acknowledged is known, and every equation holds, when the log is counted to its end."""
    log = KafkaLog(broker, "clicks")
    ends = [end for _, end in await log.ends(PARTITIONS)]
    wait_until(lambda: read_reached(warehouse, PARTITIONS).next_offsets() == ends, "the log is counted")
    reached = read_reached(warehouse, PARTITIONS)
    checks = [*check_warehouse(warehouse, reached), *await check_log(warehouse, reached, log)]
    checks.append(check_answers(warehouse, reached, answers))
    assert [check for check in checks if not check.holds] == []
    assert checks[-1].left > 0


@pytest.mark.timeout(300)
def test_upgrade_under_load_loses_no_click_and_counts_none_twice(before: Installation, tmp_path: Path) -> None:
    urls = tuple(f"http://{before.processes[name].address}/v1/clicks" for name in ("ingest-1", "ingest-2"))
    plan = LoadPlan(urls=urls, token_keys=str(before.token_keys), rate=40, burst_factor=1.0, give_up_s=200,
                    answers=str(tmp_path / "answers"))  # fmt: skip
    with Load(plan) as load, closing(Warehouse(before.warehouse_url)) as warehouse:
        wait_until(lambda: load.now().clicks_accepted > 100, "the release before takes clicks")
        wait_until(lambda: any(read_reached(warehouse, PARTITIONS).next_offsets()), "and counts them")
        ((newest,),) = warehouse.rows("SELECT max(number) FROM migrations")
        before.flattr(ROOT, "topics", "create", "--partitions", str(PARTITIONS))
        before.flattr(ROOT, "warehouse", "migrate")
        assert newest < migrations()[-1].number
        time.sleep(2)  # the old ones, on the new tables
        assert not before.processes["streams-1"].knows_of_silence()
        for number, name in enumerate(NAMES):
            # The first of a kind goes in good order, the second dies.
            before.roll(name, kill=bool(number % 2))
            accepted = load.now().clicks_accepted
            wait_until(lambda at=accepted: load.now().clicks_accepted > at + 40, f"clicks are taken beside {name}")  # type: ignore[misc]
        assert before.processes["streams-1"].knows_of_silence()
        load.stop()
        result = load.result()
        assert result.given_up == 0
        asyncio.run(sums(warehouse, before.broker, tmp_path / "answers"))
    assert "Traceback" not in "".join(process.log.read_text() for process in before.processes.values())
