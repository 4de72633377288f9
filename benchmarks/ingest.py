"""How many clicks one ingest worker takes, against a bare server and a naive one, all in one run.

    flattr bench ingest --json .bench/ingest.json

Every server runs under the same uvicorn with one worker, on the same topic, and is driven by the same
client. The machine's mood changes by the minute, so the three take turns in short rounds and each figure is
the median of its rounds; ratios are formed within a round.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.drive import CLICKS_URL, Outcome, drive
from deploy.proving.load.client import post
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ApacheKafka, EmbeddedBroker, ServiceProcess, free_port, kafka_missing
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue, keygen

MEMBERS = 200
REQUESTS = 4000
BATCHES = 200
BATCH_CLICKS = 100
PARTITIONS = 12


def run(
    *, round_s: float = 3, rounds: int = 5, soak_s: float = 300, connections: int = 256, broker: str = ""
) -> dict[str, Any]:
    """Measure everything once. ``broker`` is HOST:PORT; left out, Apache Kafka if fetched, else the embedded one.

    ``soak_s`` seconds at half load, at the end, show whether memory stays flat; 0 leaves that out.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-bench-")))
        address, kind = stack.enter_context(some_broker(folder, broker))
        asyncio.run(create_topics(address, [TopicPlan("clicks", PARTITIONS), TopicPlan("rejected", 1)]))
        keygen(folder / "keys.json", algorithm="HS256", kid="bench")
        environment = {
            "FLATTR_BROKER": address,
            "FLATTR_TOKEN_KEYS": str(folder / "keys.json"),
            "FLATTR_INGEST_IDEMPOTENCE": str(kind != "embedded").lower(),
            "FLATTR_INGEST_MEMBER_CLICKS_PER_S": "1000000",
            "FLATTR_INGEST_MEMBER_BURST_CLICKS": "1000000",
        }
        servers = {name: stack.enter_context(served(name, folder, environment)) for name in ("bare", "ingest", "naive")}
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(_measure(servers, folder / "keys.json", round_s, rounds, connections))
            if soak_s:
                rate = figures["requests_per_s"] / 2
                figures |= runner.run(_soak(servers["ingest"], folder / "keys.json", soak_s, connections, rate))
    return {**figures, "broker": kind, "connections": connections, "cores": os.cpu_count()}


@dataclass
class Round:
    """One server driven for a while: what came back, and the server's CPU for each answer, in microseconds."""

    outcome: Outcome
    cpu_us: float


class Drives:
    """The rounds of every server, in turns."""

    def __init__(self, servers: Mapping[str, ServiceProcess], connections: int) -> None:
        self._servers = servers
        self._connections = connections
        self.rounds: dict[str, list[Round]] = {}

    async def drive(
        self, name: str, server: str, requests: list[bytes], seconds: float, rate: float | None = None
    ) -> Round:
        """Drive a server and note the round under a name."""
        part = self._servers[server]
        before = _cpu_s(part)
        connections = self._connections if rate is None else self._connections * 4
        outcome = await drive(part.port, requests, seconds=seconds, connections=connections, rate=rate)
        answers = max(1, sum(outcome.statuses.values()))
        done = Round(outcome, (_cpu_s(part) - before) / answers * 1e6)
        self.rounds.setdefault(name, []).append(done)
        return done

    def per_s(self, name: str, status: int) -> float:
        """The median of answers a second."""
        return statistics.median(one.outcome.per_s(status) for one in self.rounds[name])

    def cpu_us(self, name: str) -> float:
        """The median of CPU per answer."""
        return round(statistics.median(one.cpu_us for one in self.rounds[name]), 1)

    def quantile_ms(self, name: str, percent: float) -> float:
        """The median of a latency."""
        return round(statistics.median(one.outcome.quantile_ms(percent) for one in self.rounds[name]), 2)

    def ratio(self, name: str, other: str, status: int) -> float:
        """The median of the rounds' ratios: both sides of each were measured within seconds."""
        pairs = zip(self.rounds[name], self.rounds[other], strict=True)
        return round(statistics.median(a.outcome.per_s(202) / b.outcome.per_s(status) for a, b in pairs), 3)


async def _measure(
    servers: Mapping[str, ServiceProcess], keys: Path, round_s: float, rounds: int, connections: int
) -> dict[str, Any]:
    singles, batches = single_requests(keys), _batch_requests(keys)
    drives = Drives(servers, connections)
    for name in servers:
        await drives.drive("warm-up", name, singles, 1)
    for _ in range(rounds):
        for name in servers:
            await drives.drive(name, name, singles, round_s)
        await drives.drive("batch", "ingest", batches, round_s)
    full = drives.per_s("ingest", 202)
    half = await drives.drive("half", "ingest", singles, round_s * 2, rate=full / 2)
    # The same rate on the server that does nothing: what of the latency is the machine's.
    await drives.drive("bare half", "bare", singles, round_s * 2, rate=full / 2)
    ours = [one.outcome for name in ("ingest", "batch", "half") for one in drives.rounds[name]]
    return {
        "requests_per_s": round(full),
        "bare_requests_per_s": round(drives.per_s("bare", 204)),
        "ratio_to_bare": drives.ratio("ingest", "bare", 204),
        "naive_requests_per_s": round(drives.per_s("naive", 202)),
        "ratio_to_naive": drives.ratio("ingest", "naive", 202),
        "batch_clicks_per_s": round(BATCH_CLICKS * drives.per_s("batch", 202)),
        "p50_ms": drives.quantile_ms("ingest", 50),
        "p99_ms": drives.quantile_ms("ingest", 99),
        "half_load_requests_per_s": round(half.outcome.per_s(202)),
        "half_load_p50_ms": drives.quantile_ms("half", 50),
        "half_load_p99_ms": drives.quantile_ms("half", 99),
        "bare_half_load_p99_ms": drives.quantile_ms("bare half", 99),
        "cpu_us_per_request": drives.cpu_us("ingest"),
        "bare_cpu_us_per_request": drives.cpu_us("bare"),
        "naive_cpu_us_per_request": drives.cpu_us("naive"),
        "batch_cpu_us_per_click": round(drives.cpu_us("batch") / BATCH_CLICKS, 2),
        "not_202": sum(sum(one.statuses.values()) - one.statuses[202] for one in ours),
        "rounds": {
            name: [round(sum(one.outcome.statuses.values()) / one.outcome.seconds) for one in done]
            for name, done in drives.rounds.items()
        },
    }


def _cpu_s(part: ServiceProcess) -> float:
    """CPU that a server has had, in seconds."""
    if part.process is None:
        return 0.0
    fields = Path(f"/proc/{part.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def single_requests(keys: Path) -> list[bytes]:
    """Requests of one click each, with tokens of 200 members."""
    return [post(CLICKS_URL, json.dumps(_click(number)).encode(), _headers(keys, number)) for number in range(REQUESTS)]


def _batch_requests(keys: Path) -> list[bytes]:
    return [
        post(
            CLICKS_URL,
            json.dumps([_click(number, thing) for thing in range(BATCH_CLICKS)]).encode(),
            _headers(keys, number),
        )
        for number in range(BATCHES)
    ]


def _click(number: int, thing: int = 0) -> dict[str, str]:
    return {
        "click_id": str(uuid.uuid4()),
        "member_id": f"member-{number % MEMBERS}",
        "creator_id": f"creator-{(number + thing) % 97}",
        "thing": f"https://example.org/articles/{(number * 31 + thing) % 5000}?page=2",
        "site_id": "example",
    }


_tokens: dict[tuple[Path, int], str] = {}


def _headers(keys: Path, number: int) -> dict[str, str]:
    member = number % MEMBERS
    if (keys, member) not in _tokens:
        _tokens[keys, member] = issue(
            keys, f"member-{member}", audience="flattr", now_ms=system_clock(), valid_s=86_400
        )
    return {"authorization": f"Bearer {_tokens[keys, member]}", "content-type": "application/json"}


@contextmanager
def some_broker(folder: Path, address: str) -> Iterator[tuple[str, str]]:
    """Address and kind: the one that is given, or else Apache Kafka if fetched, or else the embedded one."""
    if address:
        yield address, "given"
    elif kafka_missing() is None:
        with ApacheKafka(folder / "kafka") as kafka:
            yield kafka.address, "kafka"
    else:
        with EmbeddedBroker(folder / "broker") as embedded:
            yield embedded.address, "embedded"


@contextmanager
def served(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[ServiceProcess]:
    """Ingest, or one of its rivals (benchmarks/ingest_servers.py), on a free port."""
    port = free_port()
    command = [sys.executable, "-m", "deploy", "ingest"]
    if name != "ingest":
        command = [sys.executable, "-m", "benchmarks.ingest_servers", name]
    root = str(Path(__file__).resolve().parents[1])
    with ServiceProcess(
        name,
        command,
        folder=folder / name,
        port=port,
        environment={**environment, "FLATTR_INGEST_PORT": str(port), "PYTHONPATH": root},
    ) as part:
        yield part


async def _soak(part: ServiceProcess, keys: Path, seconds: float, connections: int, rate: float) -> dict[str, Any]:
    """Half load for minutes. Memory is compared from the first fifth's end on: until then caches fill."""
    load = asyncio.create_task(
        drive(part.port, single_requests(keys), seconds=seconds, connections=connections, rate=rate)
    )
    await asyncio.sleep(seconds / 5)
    first_mb = _memory_mb(part)
    outcome = await load
    last_mb = _memory_mb(part)
    return {
        "soak_s": seconds,
        "soak_requests": outcome.statuses[202],
        "soak_p99_ms": round(outcome.quantile_ms(99), 2),
        "soak_memory_mb": [first_mb, last_mb],
        "soak_memory_growth_percent": round((last_mb / first_mb - 1) * 100, 1),
    }


def _memory_mb(part: ServiceProcess) -> float:
    if part.process is None:
        return 0.0
    status = Path(f"/proc/{part.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) / 1024, 1)
