"""One worker of ingest against a collector in Go, in turns: rate, latency, processor time, and the same records.

Both have one and the same core, in turns, and client and broker have the others: so the slower server is not helped by
a faster one's waiting for its client.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

from benchmarks.ingest import MEMBERS, PARTITIONS, Drives, served, single_requests, some_broker
from benchmarks.rivals.tools import collector
from deploy.proving.load.client import Pool
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ServiceProcess, free_port
from ingest.runtime.tokens import keygen

#: The load at which latency is compared: far below what either can do, where nobody has to wait.
LIGHT_PER_S: Final = 1000
_TOPICS: Final = {"ingest": "clicks", "go": "clicks-go"}
_TIMES: Final = ("clicked_at", "received_at")


def run(*, round_s: float, rounds: int, connections: int = 256, fetch: bool) -> dict[str, Any]:
    """Drive both in turns. Raises ``Missing``."""
    program = collector(fetch=fetch)
    others, own = _cores()
    with ExitStack() as stack:
        stack.enter_context(running_on(others))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-bench-")))
        broker, kind = stack.enter_context(some_broker(folder, ""))
        plans = [TopicPlan(topic, PARTITIONS) for topic in _TOPICS.values()]
        asyncio.run(create_topics(broker, [*plans, TopicPlan("rejected", 1)]))
        keys = folder / "keys.json"
        keygen(keys, algorithm="HS256", kid="bench")
        environment = {
            "FLATTR_BROKER": broker,
            "FLATTR_TOKEN_KEYS": str(keys),
            "FLATTR_INGEST_IDEMPOTENCE": str(kind != "embedded").lower(),
            "FLATTR_INGEST_MEMBER_CLICKS_PER_S": "1000000",
            "FLATTR_INGEST_MEMBER_BURST_CLICKS": "1000000",
        }
        with running_on(own):
            servers = {
                "ingest": stack.enter_context(served("ingest", folder, environment)),
                "go": stack.enter_context(_go(program, folder, broker, keys, idempotent=kind != "embedded")),
            }
        requests = single_requests(keys)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            differ = runner.run(_records_that_differ(servers, requests[:MEMBERS], broker))
            drives = Drives(servers, connections)
            runner.run(_turns(drives, requests, round_s, rounds))
    figures = {"broker": kind, "connections": connections, "core_of_its_own": bool(own)}
    return {**figures, "collector_records_differ": differ, **_figures(drives)}


def _cores() -> tuple[set[int], set[int]]:
    """Cores for client and broker, and the one for the servers. Both empty where there is one, or macOS."""
    *others, own = sorted(allowed_cores()) or [0]
    return (set(others), {own}) if others else (set(), set())


def allowed_cores() -> set[int]:
    """Where this thread may run; empty where nobody can say, as on macOS."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@contextmanager
def running_on(cores: set[int]) -> Iterator[None]:
    """This thread on these cores only, and so what it starts meanwhile; empty: as before."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _go(program: Path, folder: Path, broker: str, keys: Path, *, idempotent: bool) -> ServiceProcess:
    port = free_port()
    return ServiceProcess(
        "go",
        [
            str(program), "-listen", f"127.0.0.1:{port}", "-broker", broker, "-topic", _TOPICS["go"],
            "-keys", str(keys), f"-idempotent={str(idempotent).lower()}",
        ],
        folder=folder / "go", port=port, environment={"GOMAXPROCS": "1", "GOGC": "400"},
    )  # fmt: skip


async def _turns(drives: Drives, requests: list[bytes], round_s: float, rounds: int) -> None:
    # The broker compiles, too, while it warms up: its part of a request falls to a fifth.
    for name in (*_TOPICS, *_TOPICS):
        await drives.drive("not counted", name, requests, round_s)
    for number in range(rounds):
        # Who goes first changes: the second of a pair meets another machine than the first.
        for name in sorted(_TOPICS, reverse=number % 2 == 1):
            await drives.drive(name, name, requests, round_s)
            await drives.drive(f"{name} light", name, requests, round_s, rate=LIGHT_PER_S)


def _figures(drives: Drives) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "ratio_to_go": drives.ratio("ingest", "go", 202),
        "cpu_ratio_to_go": round(drives.cpu_us("go") / drives.cpu_us("ingest"), 3),
        "light_per_s": LIGHT_PER_S,
    }
    for name in _TOPICS:
        figures |= {
            f"{name}_requests_per_s": round(drives.per_s(name, 202)),
            f"{name}_cpu_us_per_request": drives.cpu_us(name),
            f"{name}_p50_ms": drives.quantile_ms(f"{name} light", 50),
            f"{name}_p99_ms": drives.quantile_ms(f"{name} light", 99),
        }
    done = [one.outcome for name in ("ingest", "go", "ingest light", "go light") for one in drives.rounds[name]]
    figures["collector_not_202"] = sum(sum(one.statuses.values()) - one.statuses[202] for one in done)
    return figures


async def _records_that_differ(servers: dict[str, ServiceProcess], requests: list[bytes], broker: str) -> int:
    """How many clicks of the same requests stand in one topic only, times of receipt aside."""
    logs = {}
    for name, part in servers.items():
        pool = Pool([f"http://127.0.0.1:{part.port}"], 8, 30)
        pool.open()
        replies = await asyncio.gather(*(pool.request(partial(_as_it_is, request)) for request in requests))
        await pool.close()
        if wrong := {reply.status for reply in replies} - {202}:
            raise RuntimeError(f"{name} answered {sorted(wrong)} to a plain click")
        logs[name] = await _clicks(broker, _TOPICS[name], len(requests))
    return len(logs["ingest"] ^ logs["go"])


def _as_it_is(request: bytes, _url: str) -> bytes:
    return request


async def _clicks(broker: str, topic: str, count: int) -> set[tuple[int, bytes]]:
    """The first clicks of a topic with their partitions, in one order of fields."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest")
    await consumer.start()
    found: set[tuple[int, bytes]] = set()
    try:
        async with asyncio.timeout(30):
            while len(found) < count:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    for record in records:
                        for line in record.value.split(b"\n"):
                            click = msgspec.json.decode(line)
                            fields = {name: value for name, value in click.items() if name not in _TIMES}
                            found.add((tp.partition, msgspec.json.encode(fields, order="sorted")))
    finally:
        await consumer.stop()
    return found
