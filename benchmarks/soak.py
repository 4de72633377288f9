"""An hour at half load: whether memory and lag stay flat, and everything adds up at the end.

    flattr bench soak --seconds 3600 --json .bench/soak.json

The whole stack as `flattr up` starts it, on Apache Kafka if fetched. First a closed loop finds what the machine
takes with client and servers on it, then an open loop sends half of that: everything that `flattr load` sends
(duplicates, undo, malformed, batches, retries), without its bursts. Every few seconds each part's memory and
lag are read; at the end the equations of `flattr verify` are checked, and a sample of the recorded answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from deploy.cli.promises import check_answers
from deploy.proving.load.plan import LoadPlan
from deploy.proving.load.run import Load, run_load
from deploy.stack.embedded import ApacheKafka, ServiceProcess, kafka_missing
from deploy.stack.supervisor import Stack, StackPlan
from warehouse.counts.equations import KafkaLog, check_log, check_warehouse, read_reached
from warehouse.storage.client import Warehouse

PARTITIONS: Final = 4
#: Growth is measured from this share of the run on: before it, caches and pools still fill.
_FROM: Final = 0.25
#: Promises that are looked up at the end, evenly drawn: each 10,000 of them scan the month.
_PROMISES: Final = 100_000
_COUNTED_TIMEOUT_S: Final = 120.0
_MB: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class Sample:
    """One look at the running stack."""

    at_s: float
    memory_mb: dict[str, float]
    #: What the stream worker's tables take: it grows with the month's flattrs, by design.
    state_mb: float
    lag_records: float
    lag_s: float


def run(
    *, seconds: float = 3600, probe_s: float = 20, every_s: float = 5, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Find the full load, send half of it for that long, and tell what memory, lag and the equations did."""
    with ExitStack() as context:
        folder = Path(context.enter_context(tempfile.TemporaryDirectory(prefix="flattr-soak-")))
        kafka = None
        if kafka_missing() is None:
            kafka = context.enter_context(ApacheKafka(folder / "kafka"))
        # A member of this load clicks as often as a site's worth of people.
        unlimited = {f"FLATTR_INGEST_MEMBER_{name}": "1000000" for name in ("CLICKS_PER_S", "BURST_CLICKS")}
        plan = StackPlan(
            folder / "stack", broker=kafka.address if kafka else None, partitions=PARTITIONS, environment=unlimited
        )
        stack = context.enter_context(Stack(plan, say))
        load = LoadPlan(
            urls=(f"{stack.ingest.url}/v1/clicks",), token_keys=str(stack.token_keys), members=20_000, creators=500
        )
        full = run_load(msgspec.structs.replace(load, seconds=probe_s, seed=7)).requests_per_s
        _wait_counted(stack)
        say(f"full load   {full:,.0f} requests a second; half of it follows for {seconds:,.0f} s")
        answers = str(folder / "answers")
        half = msgspec.structs.replace(load, rate=full / 2, seconds=seconds, burst_factor=1.0, answers=answers)
        services = {"kafka": kafka or stack.broker, "warehouse": stack.warehouse, **stack.services}
        samples = list(_watch(stack, {name: part for name, part in services.items() if part}, half, every_s, say))
        result = samples.pop()
        _wait_counted(stack)
        checks = asyncio.run(_verify(stack, folder / "answers"))
    return {**_figures(full, samples), **checks, "load": dataclasses.asdict(result), "kafka": kafka is not None}


def _watch(
    stack: Stack, services: dict[str, ServiceProcess], plan: LoadPlan, every_s: float, say: Callable[[str], None]
) -> Iterator[Any]:
    """Samples while the load runs, then its result. A part that dies ends the run: restarts are chaos' business."""
    began = time.monotonic()
    with Load(plan) as load:
        due = began
        while load.running():
            for name in stack.watch():
                raise RuntimeError(f"{name} died")
            sample = _sample(stack, services, time.monotonic() - began)
            say(json.dumps(dataclasses.asdict(sample)))
            yield sample
            due += every_s
            time.sleep(max(0.0, due - time.monotonic()))
        yield load.result()


def _sample(stack: Stack, services: dict[str, ServiceProcess], at_s: float) -> Sample:
    lag: dict[str, list[float]] = {"records": [0.0], "seconds": [0.0]}
    state = 0.0
    with urllib.request.urlopen(f"{stack.services['streams'].url}/metrics", timeout=10) as answer:  # noqa: S310 - http
        for family in text_string_to_metric_families(answer.read().decode()):
            for one in family.samples:
                if one.name == "flattr_streams_state_bytes":
                    state = one.value / _MB
                for unit, values in lag.items():
                    if one.name == f"flattr_streams_lag_{unit}":
                        values.append(one.value)
    return Sample(
        at_s=round(at_s, 1),
        memory_mb={name: round(_memory_mb(part), 1) for name, part in services.items()},
        state_mb=round(state, 1),
        lag_records=max(lag["records"]),
        lag_s=round(max(lag["seconds"]), 3),
    )


def _memory_mb(part: ServiceProcess) -> float:
    """Resident memory of a part and its children."""
    if part.process is None:
        return 0.0
    return sum(map(_resident_mb, _family(part.process.pid)))


def _family(pid: int) -> Iterator[int]:
    """A process and those it started."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _family(int(child))


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


def _wait_counted(stack: Stack) -> None:
    """Until nothing is uncounted."""
    deadline = time.monotonic() + _COUNTED_TIMEOUT_S
    while _sample(stack, {}, 0).lag_records:
        if time.monotonic() > deadline:
            raise RuntimeError(f"clicks are still uncounted after {_COUNTED_TIMEOUT_S:.0f} s")
        time.sleep(0.5)


async def _verify(stack: Stack, answers: Path) -> dict[str, Any]:
    with contextlib.closing(Warehouse(stack.warehouse_url, timeout_s=600)) as warehouse:
        reached = read_reached(warehouse, PARTITIONS)
        checks = check_warehouse(warehouse, reached)
        checks += await check_log(warehouse, reached, KafkaLog(stack.broker_address, stack.plan.topic_clicks))
        checks.append(check_answers(warehouse, reached, answers, most=_PROMISES))
    wrong = [f"{check.name}: {check.left} is not {check.right}" for check in checks if not check.holds]
    return {"equations": len(checks), "wrong": wrong, "promises": checks[-1].left}


def _figures(full: float, samples: list[Sample]) -> dict[str, Any]:
    """Growth of each part from the first quarter's end to the run's: the medians of a tenth of the run each."""
    tenth = max(1, len(samples) // 10)
    first = samples[int(len(samples) * _FROM) :][:tenth]
    last = samples[-tenth:]
    services = sorted(samples[0].memory_mb)
    memory = {name: (_median(name, first), _median(name, last)) for name in services}
    lag_s = sorted(sample.lag_s for sample in samples)
    return {
        "seconds": samples[-1].at_s,
        "full_requests_per_s": round(full),
        "half_requests_per_s": round(full / 2),
        "samples": len(samples),
        "memory_mb": {name: list(pair) for name, pair in memory.items()},
        "memory_growth_percent": {name: round(100 * (b / a - 1), 1) for name, (a, b) in memory.items() if a},
        "state_mb": [first[-1].state_mb, last[-1].state_mb],
        "lag_s_p50": lag_s[len(lag_s) // 2],
        "lag_s_p99": lag_s[int(len(lag_s) * 0.99)],
        "lag_s_first_and_last_quarter": [
            statistics.median(one.lag_s for one in samples[: len(samples) // 4 or 1]),
            statistics.median(one.lag_s for one in samples[-(len(samples) // 4 or 1) :]),
        ],
    }


def _median(name: str, samples: list[Sample]) -> float:
    """Of a part's memory; the stream worker's without its state, which is to grow."""
    own = (one.memory_mb[name] - (one.state_mb if name == "streams" else 0.0) for one in samples)
    return round(statistics.median(own), 1)


if __name__ == "__main__":
    print(json.dumps(run(seconds=float(sys.argv[1])), indent=1))
