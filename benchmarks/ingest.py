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
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.http_load import Outcome, drive, post
from deploy.local import KAFKA_HOME, ApacheKafka, EmbeddedBroker, Part, free_port
from deploy.topics import TopicPlan, create_topics
from ingest.clock import system_clock
from ingest.tokens import issue, keygen

MEMBERS = 200
REQUESTS = 4000
BATCHES = 200
BATCH_CLICKS = 100
PARTITIONS = 12


def run(*, round_s: float = 3, rounds: int = 5, connections: int = 64, broker: str = "") -> dict[str, Any]:
    """Measure everything once. ``broker`` is HOST:PORT; left out, Apache Kafka if fetched, else the embedded one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-bench-")))
        address, kind = stack.enter_context(_broker(folder, broker))
        asyncio.run(create_topics(address, [TopicPlan("clicks", PARTITIONS), TopicPlan("rejected", 1)]))
        keygen(folder / "keys.json", algorithm="HS256", kid="bench")
        environment = {
            "FLATTR_BROKER": address,
            "FLATTR_TOKEN_KEYS": str(folder / "keys.json"),
            "FLATTR_INGEST_IDEMPOTENCE": str(kind != "embedded").lower(),
            "FLATTR_INGEST_MEMBER_CLICKS_PER_S": "1000000",
            "FLATTR_INGEST_MEMBER_BURST_CLICKS": "1000000",
        }
        servers = {
            name: stack.enter_context(_server(name, folder, environment)) for name in ("bare", "ingest", "naive")
        }
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(_measure(servers, folder / "keys.json", round_s, rounds, connections))
        figures["peak_memory_mb"] = _peak_memory_mb(servers["ingest"])
    return {**figures, "broker": kind, "connections": connections, "cores": os.cpu_count()}


async def _measure(
    servers: Mapping[str, Part], keys: Path, round_s: float, rounds: int, connections: int
) -> dict[str, Any]:
    singles, batches = _single_requests(keys), _batch_requests(keys)
    for name in servers:
        await drive(servers[name].port, singles, seconds=1, connections=connections)
    bare, ours, naive, batch = [], [], [], []
    for _ in range(rounds):
        bare.append(await drive(servers["bare"].port, singles, seconds=round_s, connections=connections))
        ours.append(await drive(servers["ingest"].port, singles, seconds=round_s, connections=connections))
        naive.append(await drive(servers["naive"].port, singles, seconds=round_s, connections=connections))
        batch.append(await drive(servers["ingest"].port, batches, seconds=round_s, connections=16))
    full = statistics.median(one.per_s(202) for one in ours)
    half = await drive(servers["ingest"].port, singles, seconds=round_s * 2, connections=connections * 4, rate=full / 2)
    return {
        "requests_per_s": round(full),
        "bare_requests_per_s": round(statistics.median(one.per_s(204) for one in bare)),
        "ratio_to_bare": _ratio(ours, bare, 204),
        "naive_requests_per_s": round(statistics.median(one.per_s(202) for one in naive)),
        "ratio_to_naive": _ratio(ours, naive, 202),
        "batch_clicks_per_s": round(BATCH_CLICKS * statistics.median(one.per_s(202) for one in batch)),
        "p50_ms": round(statistics.median(one.quantile_ms(50) for one in ours), 2),
        "p99_ms": round(statistics.median(one.quantile_ms(99) for one in ours), 2),
        "half_load_requests_per_s": round(half.per_s(202)),
        "half_load_p50_ms": round(half.quantile_ms(50), 2),
        "half_load_p99_ms": round(half.quantile_ms(99), 2),
        "not_202": sum(sum(one.statuses.values()) - one.statuses[202] for one in [*ours, *batch, half]),
        "rounds": [
            {"bare": round(b.per_s(204)), "ingest": round(o.per_s(202)), "naive": round(n.per_s(202)),
             "batch_clicks": round(BATCH_CLICKS * a.per_s(202))}
            for b, o, n, a in zip(bare, ours, naive, batch, strict=True)
        ],
    }  # fmt: skip


def _ratio(ours: list[Outcome], theirs: list[Outcome], status: int) -> float:
    """The median of the rounds' ratios: both sides of each were measured within seconds."""
    pairs = zip(ours, theirs, strict=True)
    return round(statistics.median(one.per_s(202) / other.per_s(status) for one, other in pairs), 3)


def _single_requests(keys: Path) -> list[bytes]:
    return [
        post("/v1/clicks", json.dumps(_click(number)).encode(), _headers(keys, number)) for number in range(REQUESTS)
    ]


def _batch_requests(keys: Path) -> list[bytes]:
    return [
        post(
            "/v1/clicks",
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
def _broker(folder: Path, address: str) -> Iterator[tuple[str, str]]:
    if address:
        yield address, "given"
    elif any((KAFKA_HOME / "libs").glob("kafka_2.13-*.jar")):
        with ApacheKafka(folder / "kafka") as kafka:
            yield kafka.address, "kafka"
    else:
        with EmbeddedBroker(folder / "broker") as embedded:
            yield embedded.address, "embedded"


@contextmanager
def _server(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Part]:
    port = free_port()
    command = [sys.executable, "-m", "deploy", "ingest"]
    if name != "ingest":
        command = [sys.executable, "-m", "benchmarks.ingest_servers", name]
    root = str(Path(__file__).resolve().parents[1])
    with Part(
        name,
        command,
        folder=folder / name,
        port=port,
        environment={**environment, "FLATTR_INGEST_PORT": str(port), "PYTHONPATH": root},
    ) as part:
        yield part


def _peak_memory_mb(part: Part) -> float:
    if part.process is None:
        return 0.0
    status = Path(f"/proc/{part.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) / 1024, 1)
