"""How the read API answers over a month of many flattrs while the stream goes on writing.

    flattr bench reads --json .bench/reads.json

The embedded warehouse with ``flattrs`` flattrs, one `flattr api` process (one worker, its defaults), and a
process that states another thousand flattrs a second (benchmarks/reads_month.py). The load comes from this
process, which does nothing else. Latencies of counts are taken in an open loop at a fixed rate, counted from
when a request was due; throughput in a closed loop. ``cpu_ms`` is processor time per answer, which hangs less
on what else the machine does than the clock on the wall.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import md5
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop
from hdrh.histogram import HdrHistogram

from benchmarks import reads_month
from benchmarks.drive import Outcome, drive
from benchmarks.reads_month import CREATORS, FLUSH_ROWS, FLUSH_S, LISTENED, MEMBERS, THINGS
from deploy.stack.embedded import EmbeddedWarehouse, ServiceProcess, free_port
from ingest.contract.month import month_of
from ingest.runtime.clock import system_clock
from warehouse.counts import counts
from warehouse.counts.counts import ONE_THREAD
from warehouse.storage.client import Warehouse, named
from warehouse.storage.literals import FixedBytes

#: counts a second, of creators, things and members in equal parts: some dashboards and a thousand members at a time
READS_PER_S: Final = 200
_PAGE = {"limit": 10, "after_flattrs": 2**63, "after_id": ""}
#: For the cost of one statement: names in each, as in a batch at some hundred counts a second.
_NAMES: Final = 6
_TURNS: Final = 9
_QUERIES_A_TURN: Final = 30
#: by kind: the API's function, and the key, how many there are, and the table for the plain statement
_LOOKED_UP: Final = {
    "creator": (counts.creator_counts, "creator_id", CREATORS, "counts_by_creator"),
    "member": (counts.member_counts, "member_id", MEMBERS, "counts_by_member"),
}
_HELLO_S: Final = 20
#: how long the writer is watched without readers
_ALONE_S: Final = 3


def run(*, flattrs: int = 10_000_000, seconds: float = 5, subscribers: int = 1000) -> dict[str, Any]:
    """Fill a month, then measure each kind of read, the live stream last."""
    month = month_of(system_clock())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-bench-")))
        server = stack.enter_context(EmbeddedWarehouse(folder / "warehouse"))
        # Merging the filled month is one statement of a minute or two on a busy machine.
        warehouse = Warehouse(f"{server.url}/bench", timeout_s=600)
        stack.callback(warehouse.close)
        started = time.monotonic()
        reads_month.fill(warehouse, month, flattrs)
        filled_s = time.monotonic() - started
        active_parts = reads_month.settle(warehouse)
        api = stack.enter_context(served(folder, warehouse.url, "api", {"FLATTR_API_LISTENERS_SHARE": "1"}))
        uncached = stack.enter_context(served(folder, warehouse.url, "uncached", {"FLATTR_API_COUNTERS_TTL_MS": "0"}))
        stack.enter_context(_writing(folder, warehouse.url))
        measure = Measure(server, api, uncached, seconds)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(measure.reads())
            figures |= runner.run(_listen(measure, subscribers, seconds * 2))
        figures |= _look_ups(measure, warehouse, month)
        return {
            "flattrs": flattrs, "filled_s": round(filled_s, 1), "parts_at_start": active_parts,
            "parts_at_end": reads_month.active_parts(warehouse), "flattrs_written_per_s": round(FLUSH_ROWS / FLUSH_S),
            "flushes_per_s": round(1 / FLUSH_S), "reads_per_s_of_latencies": READS_PER_S, **figures,
            "rows_read": _rows_read(warehouse, month), "cores": os.cpu_count(),
        }  # fmt: skip


@contextmanager
def served(folder: Path, url: str, name: str, environment: Mapping[str, str]) -> Iterator[ServiceProcess]:
    """The read API on a free port."""
    port = free_port()
    told = {**environment, "FLATTR_WAREHOUSE": url, "FLATTR_API_PORT": str(port), "PYTHONPATH": _root()}
    command = [sys.executable, "-m", "deploy", "api"]
    with ServiceProcess(name, command, folder=folder / name, port=port, environment=told) as part:
        yield part


@contextmanager
def _writing(folder: Path, url: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.reads_month", url]
    part = ServiceProcess(
        "writer", command, folder=folder / "writer", port=free_port(), environment={"PYTHONPATH": _root()}
    )
    part.launch()
    try:
        yield
        if not part.running():
            raise RuntimeError(part.tail())
    finally:
        part.kill()


def _root() -> str:
    return str(Path(__file__).resolve().parents[1])


def get_request(path: str) -> bytes:
    """A request for ``drive``."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def _thing_ids(count: int) -> list[str]:
    return [md5(str(random.randrange(THINGS)).encode(), usedforsecurity=False).hexdigest() for _ in range(count)]


def _cpu_s(part: ServiceProcess) -> float:
    if part.process is None:
        raise RuntimeError(f"{part.name} does not run")
    fields = Path(f"/proc/{part.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Measure:
    """The running parts, and processor time beside what they answer."""

    def __init__(self, server: ServiceProcess, api: ServiceProcess, uncached: ServiceProcess, seconds: float) -> None:
        self.server = server
        self.api = api
        self._uncached = uncached
        self._seconds = seconds

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far."""
        return {"api": _cpu_s(self.api) + _cpu_s(self._uncached), "warehouse": _cpu_s(self.server)}

    async def reads(self) -> dict[str, Any]:
        """Counts, then button counters."""
        kinds = {
            "creator": [get_request(f"/v1/creators/c{random.randrange(CREATORS)}/counts") for _ in range(5000)],
            "thing": [get_request(f"/v1/things/{thing}/counts") for thing in _thing_ids(5000)],
            "member": [get_request(f"/v1/members/m{random.randrange(MEMBERS)}/counts") for _ in range(5000)],
        }
        mixed = [request for each in zip(*kinds.values(), strict=True) for request in each]
        alone = self.cpu_s()["warehouse"]
        await asyncio.sleep(_ALONE_S)
        writes_cores = (self.cpu_s()["warehouse"] - alone) / _ALONE_S
        await drive(self.api.port, mixed, seconds=2, connections=8)
        before = self.cpu_s()
        rate = READS_PER_S / len(kinds)
        loads = [
            drive(self.api.port, requests, seconds=2 * self._seconds, connections=32, rate=rate)
            for requests in kinds.values()
        ]
        outcomes = dict(zip(kinds, await asyncio.gather(*loads), strict=True))
        figures: dict[str, Any] = {"warehouse_cores_for_writes": round(writes_cores, 2)}
        for kind, outcome in outcomes.items():
            figures |= _latencies(f"{kind}_counts", outcome)
        figures |= self._cpu("counts_at_rate", before, sum(outcome.statuses[200] for outcome in outcomes.values()))
        figures |= await self._throughput("counts", self.api.port, mixed, connections=16)
        # Pages with twenty buttons each: a popular hundred for the cache, many for the warehouse.
        hot, cold = (
            [get_request(f"/v1/counters?things={','.join(_thing_ids(20))}") for _ in range(count)]
            for count in (100, 5000)
        )
        figures |= await self._throughput("counters_from_cache", self.api.port, hot, connections=32)
        figures |= await self._throughput("counters_from_warehouse", self._uncached.port, cold, connections=16)
        for name in ("counters_from_cache", "counters_from_warehouse"):
            figures[f"{name}_things_per_s"] = figures[f"{name}_per_s"] * 20
        return figures

    async def _throughput(self, name: str, port: int, requests: list[bytes], *, connections: int) -> dict[str, Any]:
        before = self.cpu_s()
        outcome = await drive(port, requests, seconds=self._seconds, connections=connections)
        answers = outcome.statuses[200]
        return {
            f"{name}_per_s": round(outcome.per_s(200)),
            f"{name}_connections": connections,
            f"{name}_failed": sum(outcome.statuses.values()) - answers,
            **self._cpu(name, before, answers),
        }

    def _cpu(self, name: str, before: Mapping[str, float], answers: int) -> dict[str, Any]:
        """The warehouse's holds what the writer costs it, too."""
        spent = {part: now - before[part] for part, now in self.cpu_s().items()}
        return {f"{name}_cpu_ms": {part: round(used * 1000 / max(1, answers), 3) for part, used in spent.items()}}


def _latencies(name: str, outcome: Outcome) -> dict[str, Any]:
    return {
        f"{name}_p50_ms": round(outcome.quantile_ms(50), 2),
        f"{name}_p99_ms": round(outcome.quantile_ms(99), 2),
        f"{name}_failed": sum(outcome.statuses.values()) - outcome.statuses[200],
    }


class _Subscriber(asyncio.Protocol):
    """One client of the live stream: notes how old each count is when it comes."""

    def __init__(self, latency_us: HdrHistogram) -> None:
        self._latency_us = latency_us
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(get_request(f"/v1/creators/{LISTENED}/live"))  # type: ignore[attr-defined]  # TCP has write

    def data_received(self, data: bytes) -> None:
        for piece in data.split(b'"flattrs":')[1:]:
            stated_us = int(piece.partition(b",")[0])
            self.events += 1
            self._latency_us.record_value(max(1, time.monotonic_ns() // 1000 - stated_us))


async def _listen(measure: Measure, subscribers: int, seconds: float) -> dict[str, Any]:
    """Many clients of one creator, whose count is stated with every flush."""
    latency_us = HdrHistogram(1, 60_000_000, 3)
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    made = [
        await loop.create_connection(lambda: _Subscriber(latency_us), "127.0.0.1", measure.api.port)
        for _ in range(subscribers)
    ]
    untold = [client for _, client in made]
    while untold and time.monotonic() < began + _HELLO_S:
        untold = [client for client in untold if client.events == 0]
        await asyncio.sleep(0.05)
    all_told_s = time.monotonic() - began
    latency_us.reset()
    for _, client in made:
        client.events = 0
    before = measure.cpu_s()["api"]
    await asyncio.sleep(seconds)
    spent_s = measure.cpu_s()["api"] - before
    for transport, _ in made:
        transport.close()
    events = sum(client.events for _, client in made)
    return {
        "subscribers": subscribers,
        "subscribers_told_first_within_s": round(all_told_s, 2),
        "subscribers_served": sum(client.events > 0 for _, client in made),
        "events_per_s": round(events / seconds),
        "event_cpu_us": round(spent_s * 1e6 / max(1, events), 1),
        "count_to_event_p50_ms": round(latency_us.get_value_at_percentile(50) / 1000, 1),
        "count_to_event_p99_ms": round(latency_us.get_value_at_percentile(99) / 1000, 1),
    }


def _look_ups(measure: Measure, warehouse: Warehouse, month: int) -> dict[str, Any]:
    """The server's processor time of a look-up of a few names, and of the same by FINAL, in turns beside the writer."""
    figures: dict[str, Any] = {}
    for kind, (query, name, names, table) in _LOOKED_UP.items():
        final = (
            f"SELECT {name}, sum(flattrs) FROM {table} FINAL "  # noqa: S608 - names of ours
            f"WHERE month = %(month)s AND {name} IN %(names)s GROUP BY {name}"
        )
        spent_s: dict[str, list[float]] = {"look_up": [], "final": []}
        for turn in range(2 * _TURNS):
            way = "final" if turn % 2 else "look_up"
            before = measure.cpu_s()["warehouse"]
            for _ in range(_QUERIES_A_TURN):
                asked = tuple(f"{kind[0]}{random.randrange(names)}" for _ in range(_NAMES))
                if way == "final":
                    warehouse.rows(final, {"month": month, "names": asked}, ONE_THREAD)
                else:
                    query(warehouse, month, asked, 0)
            spent_s[way].append((measure.cpu_s()["warehouse"] - before) / _QUERIES_A_TURN)
        each_ms = {way: median(turns) * 1000 for way, turns in spent_s.items()}
        figures[f"{kind}_look_up_cpu_ms"] = round(each_ms["look_up"], 2)
        figures[f"{kind}_look_up_to_final"] = round(each_ms["look_up"] / each_ms["final"], 2)
    return figures


def _rows_read(warehouse: Warehouse, month: int) -> dict[str, int]:
    """Rows that each query would read, by the server's own estimate over its indexes."""
    thing = _thing_ids(1)[0]
    asked: dict[str, dict[str, Any]] = {
        "creator_counts": {"creator_ids": ("c7",)},
        "thing_counts": {"thing_ids": (FixedBytes(thing),)},
        "member_counts": {"member_ids": ("m7",)},
        "creator_series": {"creator_id": "c7"},
        "creator_things": {"creator_id": "c7", **_PAGE},
        "receipt": {"click_id": "c4ca4238-a0b9-2382-0dcc-509a6f75849b", "months": (month,)},
        "top_creators": _PAGE,
        "top_things": _PAGE,
    }
    read = {}
    for query, params in asked.items():
        lines = warehouse.rows(f"EXPLAIN ESTIMATE {named(query)}", {"month": month, **params})
        read[query] = sum(int(rows) for _, _, _, rows, _ in lines)
    return read
