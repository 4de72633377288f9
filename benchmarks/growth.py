"""How figures grow with what there is, and with the processes that share the work.

    flattr bench growth --json .bench/growth.json

Growth is told as an exponent: of the line through the logarithms of size and time (or bytes); 1 means that twice as
much takes twice as long. Efficiency is what two processes do, of twice what one does; client, broker and warehouse
share the machine's cores with them. Two stream workers are in `flattr bench fleet`.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop

from benchmarks import close, ingest, reads, reads_month, streams
from benchmarks.drive import drive
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import EmbeddedWarehouse
from ingest.contract.month import month_of
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import keygen
from streams.precompile import precompile
from warehouse.storage.client import Warehouse

_CONNECTIONS: Final = 128
_CLICKS: Final = 200_000
#: Until caches are filled.
_BEFORE_S: Final = 1.0


def run(
    *, pairs: int = 20_000_000, state: int = 30_000_000, flattrs: int = 1_000_000, round_s: float = 5
) -> dict[str, Any]:
    """Measure all of it. ``pairs`` and ``state`` are the largest sizes, ``flattrs`` those of the month that is read."""
    return {**_closes(pairs), **_states(state), **_ingest(round_s), **_api(flattrs, round_s)}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the line of least squares through the logarithms."""
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    return round(float(slope), 2)


def _closes(largest: int) -> dict[str, Any]:
    sizes = [largest // 8, largest // 4, largest // 2, largest]
    with tempfile.TemporaryDirectory(prefix="flattr-growth-") as folder:
        measured = [close.measure(size, Path(folder) / str(size)) for size in sizes]
    close_s = [one["close_s"] for one in measured]
    memory_mb = [one["peak_memory_mb"] for one in measured]
    return {
        "close_pairs": sizes,
        "close_s": close_s,
        "close_memory_mb": memory_mb,
        "close_exponent": exponent(sizes, close_s),
        "close_memory_exponent": exponent(sizes, memory_mb),
    }


def _states(largest: int) -> dict[str, Any]:
    sizes = [largest // 30, largest // 3, largest]
    measured = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-growth-")))
        broker, _ = stack.enter_context(ingest.some_broker(folder, ""))
        server = stack.enter_context(EmbeddedWarehouse(folder / "warehouse"))
        precompile()
        bench = streams.Bench(folder, broker, server.url)
        bench.fill(_CLICKS, 1000, 1000)
        empty_per_s = bench.rate("blocks", _CLICKS)
        measured = [bench.with_state(_CLICKS, size, empty_per_s) for size in sizes]
    recover_s = [one["recover_s"] for one in measured]
    return {
        "state_flattrs": [one["state_flattrs"] for one in measured],
        "state_recover_s": recover_s,
        "state_bytes_per_flattr": [one["bytes_per_flattr"] for one in measured],
        "state_clicks_per_s": [one["clicks_per_s_at_10m"] for one in measured],
        "state_recover_exponent": exponent(sizes, recover_s),
        "state_rate_exponent": exponent(sizes, [one["clicks_per_s_at_10m"] for one in measured]),
    }


def _ingest(round_s: float) -> dict[str, Any]:
    """Requests a second of one worker process and of two that share the port."""
    per_s = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-growth-")))
        address, _ = stack.enter_context(ingest.some_broker(folder, ""))
        asyncio.run(create_topics(address, [TopicPlan("clicks", ingest.PARTITIONS), TopicPlan("rejected", 1)]))
        keygen(folder / "keys.json", algorithm="HS256", kid="bench")
        requests = ingest.single_requests(folder / "keys.json")
        for workers in (1, 2):
            environment = {
                "FLATTR_BROKER": address,
                "FLATTR_TOKEN_KEYS": str(folder / "keys.json"),
                "FLATTR_INGEST_WORKERS": str(workers),
                "FLATTR_INGEST_SPOOL": str(folder / f"spool-{workers}"),
                "FLATTR_INGEST_MEMBER_CLICKS_PER_S": "1000000",
                "FLATTR_INGEST_MEMBER_BURST_CLICKS": "1000000",
            }
            with ingest.served("ingest", folder / str(workers), environment) as part:
                per_s[workers] = _answered_per_s({part.port: requests}, 202, round_s)
    return _shared("ingest", per_s)


def _api(flattrs: int, round_s: float) -> dict[str, Any]:
    """Counts a second of one process of the read API and of two."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-growth-")))
        server = stack.enter_context(EmbeddedWarehouse(folder / "warehouse"))
        warehouse = Warehouse(f"{server.url}/bench", timeout_s=600)
        stack.callback(warehouse.close)
        reads_month.fill(warehouse, month_of(system_clock()), flattrs)
        reads_month.settle(warehouse)
        apis = [stack.enter_context(reads.served(folder, warehouse.url, f"api-{number}", {})) for number in (1, 2)]
        counts = [
            reads.get_request(f"/v1/creators/c{random.randrange(reads_month.CREATORS)}/counts") for _ in range(5000)
        ]
        per_s = {
            processes: _answered_per_s({part.port: counts for part in apis[:processes]}, 200, round_s)
            for processes in (1, 2)
        }
    return _shared("api_counts", per_s)


def _shared(name: str, per_s: Mapping[int, float]) -> dict[str, Any]:
    return {
        **{f"{name}_{processes}_per_s": round(value) for processes, value in per_s.items()},
        f"{name}_efficiency": round(per_s[2] / per_s[1] / 2, 2),
    }


def _answered_per_s(load: Mapping[int, list[bytes]], status: int, seconds: float) -> float:
    """Answers with that status a second, of all ports together."""

    async def driven() -> float:
        for lasting_s in (_BEFORE_S, seconds):
            outcomes = await asyncio.gather(
                *(
                    drive(port, requests, seconds=lasting_s, connections=_CONNECTIONS // len(load))
                    for port, requests in load.items()
                )
            )
        return sum(outcome.per_s(status) for outcome in outcomes)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(driven())


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
