"""How fast one stream worker counts, against the bare loop and plain Faust, all in one run.

    flattr bench streams --json .bench/streams.json

Broker and warehouse are real processes, the worker is `flattr streams` as anybody runs it. Rates count from
the moment at which the worker has its state to the flush with which progress is complete. Worker and bare
loop take turns in rounds and the ratio is the median of the rounds' ratios, for the machine's mood changes
by the minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks.streams_traffic import MEMBERS, by_partition, fill, lines
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import (
    ROOT,
    ApacheKafka,
    EmbeddedBroker,
    EmbeddedWarehouse,
    ServiceProcess,
    free_port,
    kafka_missing,
)
from ingest.contract.month import month_of
from ingest.contract.position import position
from ingest.runtime.clock import system_clock
from streams.clicks.pseudonyms import ErasureList
from streams.precompile import precompile
from streams.recovery import Recovery, load_partition
from streams.state.partition import TALLIES, MonthState
from warehouse.storage.client import Warehouse, named
from warehouse.storage.migrate import migrate

PARTITIONS = 4
BLOCK_CLICKS = 200


def run(  # noqa: PLR0913 - how much of each
    *, clicks: int = 400_000, singles: int = 150_000, plain: int = 8_000, state: int = 10_000_000, rounds: int = 3,
    visible_s: float = 10,
) -> dict[str, Any]:  # fmt: skip
    """Measure everything once. ``state`` is how many flattrs are in memory for ``ratio_at_10m``."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-bench-")))
        kind = "kafka" if kafka_missing() is None else "embedded"
        broker = stack.enter_context((ApacheKafka if kind == "kafka" else EmbeddedBroker)(folder / "broker"))
        server = stack.enter_context(EmbeddedWarehouse(folder / "warehouse"))
        precompile()  # compiles the loops if this is their first run here: no part of any figure
        bench = Bench(folder, broker.address, server.url)
        bench.fill(clicks, singles, plain)
        figures = bench.rates(clicks, rounds)
        figures |= bench.records(singles, plain)
        figures |= bench.with_state(clicks, state, figures["clicks_per_s"])
        figures |= bench.visible(figures["clicks_per_s"] / 2, visible_s)
    return {**figures, "broker": kind, "partitions": PARTITIONS, "block_clicks": BLOCK_CLICKS, "cores": os.cpu_count()}


class Bench:
    """Topics with clicks, databases, and workers and rivals that count from one into the other."""

    def __init__(self, folder: Path, broker: str, warehouse_url: str) -> None:
        self.folder = folder
        self.broker = broker
        self.warehouse_url = warehouse_url
        self.at_ms = system_clock()
        self.databases = 0

    def database(self) -> Warehouse:
        """A new, migrated database."""
        self.databases += 1
        warehouse = Warehouse(f"{self.warehouse_url}/bench_{self.databases}", timeout_s=600)
        migrate(warehouse)
        return warehouse

    def fill(self, clicks: int, singles: int, plain: int) -> None:
        """Write the topics: blocks, singles, the rival's own."""
        names = [TopicPlan(name, PARTITIONS).unbounded() for name in ("blocks", "singles", "live")]
        names += [TopicPlan("plain", 1), TopicPlan("rejected", 1)]
        asyncio.run(create_topics(self.broker, names))
        made = list(lines(max(clicks, singles), at_ms=self.at_ms, seed=7))
        lanes = by_partition(made[:clicks], PARTITIONS)
        asyncio.run(fill(self.broker, "blocks", lanes, block=BLOCK_CLICKS, at_ms=self.at_ms))
        lanes = by_partition(made[:singles], PARTITIONS)
        asyncio.run(fill(self.broker, "singles", lanes, block=1, at_ms=self.at_ms))
        asyncio.run(fill(self.broker, "plain", {0: [line for _, line in made[:plain]]}, block=1, at_ms=self.at_ms))

    def rates(self, clicks: int, rounds: int) -> dict[str, Any]:
        """Worker and floor in turns."""
        worker, floor = [], []
        for _ in range(rounds):
            worker.append(self.rate("blocks", clicks))
            floor.append(self.floor("blocks", clicks))
        return {
            "clicks_per_s": round(statistics.median(worker)),
            "floor_clicks_per_s": round(statistics.median(floor)),
            "ratio_to_floor": round(statistics.median(w / f for w, f in zip(worker, floor, strict=True)), 3),
            "rounds": [{"clicks_per_s": round(w), "floor": round(f)} for w, f in zip(worker, floor, strict=True)],
        }

    def records(self, singles: int, plain: int) -> dict[str, Any]:
        """One click per record: the worker and plain Faust."""
        single = self.rate("singles", singles)
        rival = self.rival("plain", self.broker, "plain", str(plain))
        return {
            "single_clicks_per_s": round(single),
            "plain_faust_clicks_per_s": round(rival),
            "single_to_plain": round(single / rival, 1),
        }

    def floor(self, topic: str, clicks: int) -> float:
        """The bare loop, into a database of its own."""
        warehouse = self.database()
        warehouse.close()
        return self.rival("floor", self.broker, topic, str(clicks), warehouse.url)

    def rival(self, *arguments: str) -> float:
        """Clicks a second of a rival's process."""
        command = [sys.executable, "-m", "benchmarks.streams_rivals", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=600)  # noqa: S603 - our own
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} ended with code {done.returncode}: {done.stderr.decode()[-2000:]}")
        # Faust writes to stdout, too: the figures are what stands last.
        return float(json.loads(done.stdout[done.stdout.rindex(b"{") :])["clicks_per_s"])

    def rate(
        self, topic: str, clicks: int, warehouse: Warehouse | None = None, epoch: int = 0, tallied: int = 0
    ) -> float:
        """Clicks a second of a worker on a full topic; ``tallied`` were counted in earlier epochs."""
        warehouse = warehouse or self.database()
        with self.worker(warehouse, topic, epoch) as worker:
            wait_for(lambda: recovered_at(worker), worker)
            last = wait_for(lambda: counted(warehouse, epoch) >= tallied + clicks, worker)
            first = recovered_at(worker)
        return clicks / (last - first)

    def worker(self, warehouse: Warehouse, topic: str, epoch: int = 0) -> ServiceProcess:
        """`flattr streams` with its defaults, in a group of its own."""
        group = f"bench-{self.databases}-{epoch}"
        return counting_worker(self.folder, self.broker, warehouse.url, topic, group=group, epoch=epoch)

    def with_state(self, clicks: int, state: int, empty_per_s: float) -> dict[str, Any]:
        """Recovery of a large state, and the rate on top of it."""
        warehouse = self.database()
        month = month_of(self.at_ms)
        tally = {"month": month, **dict.fromkeys(TALLIES, 0), "accepted": state // PARTITIONS}
        tally["counted"] = tally["accepted"]
        warehouse.insert(
            "progress",
            {
                "partition": list(range(PARTITIONS)),
                "position": [position(0, 1 << 30, 0xFFFF)] * PARTITIONS,
                "record_at": [self.at_ms] * PARTITIONS,
                "written_at": [self.at_ms] * PARTITIONS,
                **{f"tallies.{name}": [[number]] * PARTITIONS for name, number in tally.items()},
            },
        )
        warehouse.command(_STATE, {"month": month, "state": state, "members": MEMBERS, "at": self.at_ms})
        figures = recovery(warehouse, month)
        per_s = self.rate("blocks", clicks, warehouse, epoch=1, tallied=state)
        return {**figures, "clicks_per_s_at_10m": round(per_s), "ratio_at_10m": round(per_s / empty_per_s, 3)}

    def visible(self, per_s: float, seconds: float) -> dict[str, Any]:
        """From acknowledgement to the count being readable, at that load."""
        warehouse = self.database()
        with self.worker(warehouse, "live") as worker:
            time.sleep(2)
            delays = asyncio.run(probe(self.broker, warehouse, per_s, seconds, self.at_ms))
            if not worker.running():
                raise RuntimeError(worker.tail())
        delays.sort()
        return {
            "visible_ms_p50": round(delays[len(delays) // 2]),
            "visible_ms_p99": round(delays[int(len(delays) * 0.99)]),
            "visible_load_clicks_per_s": round(per_s),
            "visible_probes": len(delays),
        }


#: Flattrs of members that the traffic uses too, counted in log epoch 0.
_STATE = """
INSERT INTO flattrs (month, member_id, creator_id, thing_id, first_position, position, version, click_id, clicked_at)
SELECT
    %(month)s, 'member-' || leftPad(toString(number %% %(members)s), 7, '0'),
    'creator-' || toString(intDiv(number, %(members)s) %% 50) AS creator,
    MD5(creator || toString(cityHash64(number) %% 500)),
    number, number, bitShiftLeft(toUInt64(%(at)s), 20), MD5(toString(number + 1)),
    fromUnixTimestamp64Milli(toInt64(%(at)s))
FROM numbers(%(state)s)
SETTINGS max_insert_threads = 1
"""


def counting_worker(  # noqa: PLR0913 - where it reads, and where it writes
    folder: Path, broker: str, warehouse_url: str, topic: str, *, group: str, epoch: int = 0
) -> ServiceProcess:
    """`flattr streams` with its defaults, to be started."""
    port = free_port()
    return ServiceProcess(
        f"streams-{group}", [sys.executable, "-c", "from deploy.cli.main import main; main()", "streams"],
        folder=folder, port=port,
        environment={
            "PYTHONPATH": str(ROOT), "FLATTR_BROKER": broker, "FLATTR_WAREHOUSE": warehouse_url,
            "FLATTR_TOPIC_CLICKS": topic, "FLATTR_STREAMS_GROUP": group,
            "FLATTR_STREAMS_PORT": str(port), "FLATTR_LOG_EPOCH": str(epoch),
        },
    )  # fmt: skip


def recovery(warehouse: Warehouse, month: int) -> dict[str, Any]:
    """Loading all partitions' state, against selecting the same columns and dropping them."""
    precompile()
    packed = named("flattrs_of_partitions")
    plain = packed[packed.index("WITH") : packed.index("\nSELECT\n") + 1]
    plain += (
        "SELECT member_id, creator_id, thing_id, version, first_position\n" + packed[packed.index("FROM flattrs") :]
    )
    select_s = _drained(warehouse.blocks(plain, _which(month), {"strings_as_bytes": True}))
    packed_s = _drained(warehouse.packed(packed, _which(month)))
    # Twice, for a virtual machine gets memory from its host when it is first touched (here at 0.4 GB/s against
    # 8 GB/s): the first time measures the host as well, the second what the worker does.
    # What came the first time is let go of: its memory is what the second one gets.
    first_s = _recovered(warehouse, month)[0]
    recover_s, months = _recovered(warehouse, month)
    flattrs = sum(one.flattrs.size for one in months)
    return {
        "recover_s": round(recover_s, 2),
        "recover_first_s": round(first_s, 2),
        "select_s": round(select_s, 2),
        "select_packed_s": round(packed_s, 2),
        "recover_to_select": round(recover_s / select_s, 2),
        "recover_first_to_select": round(first_s / select_s, 2),
        "state_flattrs": flattrs,
        "bytes_per_flattr": round(sum(one.flattrs.bytes for one in months) / flattrs, 1),
        "bytes_per_flattr_with_counts": round(sum(one.bytes for one in months) / flattrs, 1),
    }


def _recovered(warehouse: Warehouse, month: int) -> tuple[float, list[MonthState]]:
    """Seconds to load all partitions' state, and the state."""
    began = time.perf_counter()
    states = [load_partition(warehouse, number) for number in range(PARTITIONS)]
    months = Recovery(warehouse, PARTITIONS, lambda _rows: None, ErasureList(warehouse).newest).load(states, month)
    return time.perf_counter() - began, months


def _which(month: int) -> dict[str, Any]:
    """Parameters of flattrs_of_partitions.sql: all of them."""
    return {"month": month, "numbers": list(range(PARTITIONS)), "partitions": PARTITIONS}


def _drained(blocks: Iterator[object]) -> float:
    """Seconds to run a query and drop what comes."""
    began = time.perf_counter()
    for _ in blocks:
        pass
    return time.perf_counter() - began


async def probe(broker: str, warehouse: Warehouse, per_s: float, seconds: float, at_ms: int) -> list[float]:
    """Load in blocks at that rate; every 40 ms a click on a creator of its own, and how long its count took, in ms."""
    made = list(lines(int(per_s * seconds), at_ms=at_ms, seed=11))
    lanes = by_partition(made, PARTITIONS)
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", linger_ms=2)
    await producer.start()
    waiting: dict[str, float] = {}
    delays: list[float] = []
    began = time.perf_counter()
    load = asyncio.create_task(_load(producer, lanes, per_s, began))
    watch = asyncio.create_task(_watch(warehouse, waiting, delays, load.done))
    number = 0
    while not load.done():
        creator = f"probe-{number}"
        member = f"prober-{number}"
        line = made[0][1].replace(made[0][0].encode(), member.encode())
        line = line.replace(line[line.index(b'"creator_id":') :].split(b",")[0], f'"creator_id":"{creator}"'.encode())
        number += 1
        lane = next(iter(by_partition([(member, line)], PARTITIONS)))
        await producer.send_and_wait("live", line, partition=lane, timestamp_ms=at_ms)
        waiting[creator] = time.perf_counter()
        await asyncio.sleep(0.04)
    await load
    await watch
    await producer.stop()
    return delays


async def _load(producer: AIOKafkaProducer, lanes: dict[int, list[bytes]], per_s: float, began: float) -> None:
    sent = 0
    blocks = [
        (number, lane[at : at + BLOCK_CLICKS])
        for number, lane in lanes.items()
        for at in range(0, len(lane), BLOCK_CLICKS)
    ]
    blocks.sort(key=lambda block: hash(block[1][0]))
    for number, block in blocks:
        early_s = sent / per_s - (time.perf_counter() - began)
        if early_s > 0:
            await asyncio.sleep(early_s)
        await producer.send("live", b"\n".join(block), partition=number, timestamp_ms=system_clock())
        sent += len(block)


async def _watch(
    warehouse: Warehouse, waiting: dict[str, float], delays: list[float], over: Callable[[], bool]
) -> None:
    deadline = None
    while True:
        if waiting:
            rows = await asyncio.to_thread(
                warehouse.rows,
                "SELECT creator_id FROM counts_by_creator WHERE creator_id IN %(names)s AND flattrs > 0",
                {"names": list(waiting)},
            )
            now = time.perf_counter()
            delays += [(now - waiting.pop(creator)) * 1000 for (creator,) in set(rows)]
        if over():
            deadline = deadline or time.perf_counter() + 10
            if not waiting or time.perf_counter() > deadline:
                delays += [1e6] * len(waiting)
                return
        await asyncio.sleep(0.01)


def wait_for(look: Callable[[], object], alive: ServiceProcess, timeout_s: float = 600) -> float:
    """The time at which it was so."""
    deadline = time.monotonic() + timeout_s
    while not look():
        if not alive.running() or time.monotonic() > deadline:
            raise RuntimeError(f"the worker did not get there.\n{alive.tail(30)}")
        time.sleep(0.02)
    return time.time()


def recovered_at(worker: ServiceProcess) -> float:
    """When the worker logged that it has its state and counts from now on; 0 before."""
    for line in worker.log.read_text(errors="replace").splitlines():
        if '"state recovered"' in line:
            return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
    return 0


def counted(warehouse: Warehouse, epoch: int) -> int:
    """Clicks that progress accounts for in that log epoch."""
    sql = "SELECT sum(arraySum(tallies.accepted)) FROM progress FINAL WHERE bitShiftRight(position, 56) = %(epoch)s"
    return int(warehouse.rows(sql, {"epoch": epoch})[0][0])
