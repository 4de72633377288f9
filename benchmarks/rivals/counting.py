"""One stream worker against Kafka Streams and Bytewax: the same topics, the same work, exact results.

The work: one flattr per month, member and thing; flattrs per creator and per member; progress that survives a crash.
Our worker counts things as well and writes all of it to ClickHouse; the rivals store their counts where they are at
home. Their rates are those of the second half of the clicks, when the JVM has compiled and caches are full. Ours is
that of all clicks: it is compiled beforehand, and within half of them a single flush would tell.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.close import peak_mb
from benchmarks.rivals.tools import BYTEWAX_PYTHONS, SOURCES, Missing, kafka_streams, python
from benchmarks.streams import BLOCK_CLICKS, PARTITIONS, counted, counting_worker, recovered_at, wait_for
from benchmarks.streams_traffic import by_partition, fill, lines
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ApacheKafka, EmbeddedWarehouse, ServiceProcess, free_port, kafka_missing
from ingest.contract.click import decode
from ingest.contract.month import month_of
from ingest.runtime.clock import system_clock
from streams.precompile import precompile
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate

_TIMEOUT_S: Final = 600


@dataclass(frozen=True)
class Counts:
    """Flattrs by creator and by member."""

    creators: dict[str, int]
    members: dict[str, int]

    def wrong(self, others: Counts) -> int:
        """How many of the others' counts are not these."""
        pairs = [(self.creators, others.creators), (self.members, others.members)]
        return sum(own.get(name) != other.get(name) for own, other in pairs for name in own.keys() | other.keys())


@dataclass(frozen=True)
class Traffic:
    """A full topic: its clicks, how many to a record, the right counts, and the clicks before each record's end."""

    topic: str
    clicks: int
    block: int
    counts: Counts
    until: dict[int, list[int]]

    def before(self, offsets: dict[int, int]) -> int:
        """How many clicks stand below these offsets of the partitions."""
        return sum(self.until[number][offset - 1] for number, offset in offsets.items() if offset > 0)


@dataclass(frozen=True)
class Look:
    """How many clicks were counted at some time between asking and the answer."""

    asked_s: float
    clicks: int
    answered_s: float


@dataclass(frozen=True)
class Rate:
    """What one run came to."""

    per_s: float
    memory_mb: int
    wrong: int


class Arena:
    """A broker with full topics, a warehouse, and who counts from one into the other."""

    def __init__(self, folder: Path, broker: str, warehouse_url: str, rivals: Mapping[str, str]) -> None:
        self._folder = folder
        self._broker = broker
        self._warehouse_url = warehouse_url
        self._rivals = rivals
        self._runs = 0

    def fill(self, topic: str, clicks: int, block: int) -> Traffic:
        """Write a topic."""
        at_ms = system_clock()
        plans = [TopicPlan(topic, PARTITIONS).unbounded(), TopicPlan("rejected", 1)]
        asyncio.run(create_topics(self._broker, plans))
        # Ten a millisecond until now: our worker refuses clicks of times to come, which the rivals would count.
        made = list(lines(clicks, at_ms=at_ms - clicks // 10 - 1000, seed=7))
        lanes = by_partition(made, PARTITIONS)
        asyncio.run(fill(self._broker, topic, lanes, block=block, at_ms=at_ms))
        flattrs = {
            (month_of(click.clicked_at), click.member_id, click.thing_id): click.creator_id
            for click in (decode(line) for _, line in made)
        }
        counts = Counts(Counter(flattrs.values()), Counter(member for _, member, _ in flattrs))
        until = {
            number: [min(at + block, len(lane)) for at in range(0, len(lane), block)] for number, lane in lanes.items()
        }
        return Traffic(topic, clicks, block, counts, until)

    def ours(self, traffic: Traffic) -> Rate:
        """`flattr streams` with its defaults, into an empty database: all clicks, from when it has its state."""
        group = self._name("ours")
        warehouse = Warehouse(f"{self._warehouse_url}/{group.replace('-', '_')}", timeout_s=_TIMEOUT_S)
        migrate(warehouse)
        with counting_worker(self._folder, self._broker, warehouse.url, traffic.topic, group=group) as worker:
            wait_for(lambda: recovered_at(worker), worker)
            last_s = wait_for(lambda: counted(warehouse, 0) >= traffic.clicks, worker)
            per_s = traffic.clicks / (last_s - recovered_at(worker))
            memory_mb = peak_mb(_process(worker))
        tables = ("creator", "sum(flattrs)"), ("member", "sum(flattrs)")
        found: list[dict[str, int]] = [
            dict(warehouse.rows(f"SELECT {name}_id, {sum_} FROM counts_by_{name} FINAL GROUP BY {name}_id"))  # noqa: S608 - our words
            for name, sum_ in tables
        ]
        warehouse.close()
        return Rate(per_s, memory_mb, traffic.counts.wrong(Counts(*found)))

    def kafka_streams(self, traffic: Traffic) -> Rate:
        """Kafka Streams exactly once on two threads: done when its transactions have committed the last offsets."""
        application = self._name("kafka-streams")
        folder = self._folder / application
        # As much heap as it wants here, and the collector that gives the most throughput on two cores.
        java = ["java", "-Xms1g", "-Xmx3g", "-XX:+UseParallelGC", "-cp", self._rivals["kafka_streams"], "Counting"]
        service = ServiceProcess(
            application, [*java, self._broker, traffic.topic, application, str(folder / "state")],
            folder=folder, port=free_port(),
        )  # fmt: skip
        started_s = time.perf_counter()
        service.launch()
        try:
            with committed(self._broker, application) as offsets:
                per_s = measured(lambda: traffic.before(offsets()), traffic.clicks, service, started_s)
            memory_mb = peak_mb(_process(service))
        finally:
            service.stop()
        stores = [f"{application}-{name}-changelog" for name in ("by-creator", "by-member")]
        counts = Counts(*(asyncio.run(changelog_sums(self._broker, store)) for store in stores))
        return Rate(per_s, memory_mb, traffic.counts.wrong(counts))

    def bytewax(self, traffic: Traffic) -> Rate:
        """Bytewax with a snapshot of what changed every ten seconds, and at the end."""
        folder = self._folder / self._name("bytewax")
        folder.mkdir()
        flow = [self._rivals["bytewax"], "-P", str(SOURCES / "bytewax_flow.py"), self._broker, traffic.topic]
        command = [*flow, str(traffic.clicks), str(traffic.block), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
            memory_mb = 0
            while process.poll() is None:
                memory_mb = max(memory_mb, _peak_mb_if_alive(process.pid))
                time.sleep(0.05)
            out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(f"Bytewax ended with code {process.returncode}: {err[-2000:]}")
        counts = Counts(**json.loads((folder / "counts.json").read_text()))
        return Rate(float(out), memory_mb, traffic.counts.wrong(counts))

    def _name(self, who: str) -> str:
        self._runs += 1
        return f"{who}-{self._runs}"


def run(*, clicks: int, singles: int, rounds: int, fetch: bool, left_out: Callable[[str, str], None]) -> dict[str, Any]:
    """Count both topics with everybody in turns. Rivals that are missing are left out."""
    rivals = _rivals(left_out, fetch=fetch)
    if not rivals:
        return {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-bench-")))
        broker = ApacheKafka(folder / "broker")
        # Kafka Streams works the broker much harder than we do, so here it compiles in full, as in production.
        broker.command = [word for word in broker.command if not word.startswith("-XX:TieredStopAtLevel")]
        stack.enter_context(broker)
        server = stack.enter_context(EmbeddedWarehouse(folder / "warehouse"))
        precompile()
        arena = Arena(folder, broker.address, server.url, rivals)
        sides = {"ours": arena.ours, "kafka_streams": arena.kafka_streams, "bytewax": arena.bytewax}
        topics = [arena.fill("blocks", clicks, BLOCK_CLICKS), arena.fill("singles", singles, 1)]
        rates: dict[tuple[str, str], list[Rate]] = {}
        for traffic in topics:
            for number in range(rounds):
                # Who goes first changes.
                for name in ("ours", *rivals)[:: -1 if number % 2 else 1]:
                    rates.setdefault((name, traffic.topic), []).append(sides[name](traffic))
    return {"clicks": clicks, "singles": singles, **_figures(rates)}


def _rivals(left_out: Callable[[str, str], None], *, fetch: bool) -> dict[str, str]:
    """What each rival that can run here is started by: a class path, a Python."""
    tools: dict[str, Callable[[], str]] = {
        "kafka_streams": lambda: kafka_streams(fetch=fetch),
        "bytewax": lambda: str(python("bytewax", BYTEWAX_PYTHONS, fetch=fetch)),
    }
    found = {}
    no_kafka = kafka_missing()
    for name, tool in tools.items():
        if no_kafka:
            left_out(name, no_kafka)
            continue
        try:
            found[name] = tool()
        except Missing as missing:
            left_out(name, str(missing))
    return found


def _figures(rates: dict[tuple[str, str], list[Rate]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for (name, topic), found in rates.items():
        figures |= {
            f"{name}_{topic}_per_s": round(statistics.median(rate.per_s for rate in found)),
            f"{name}_{topic}_memory_mb": max(rate.memory_mb for rate in found),
            f"{name}_{topic}_wrong_counts": sum(rate.wrong for rate in found),
        }
        if name != "ours":
            pairs = zip(rates["ours", topic], found, strict=True)
            figures |= {f"{topic}_to_{name}": round(statistics.median(a.per_s / b.per_s for a, b in pairs), 2)}
    return figures


def measured(done: Callable[[], int], clicks: int, alive: ServiceProcess, started_s: float) -> float:
    """Clicks a second of who was started then and counts them, by looking until all are ``done``."""
    deadline = time.monotonic() + _TIMEOUT_S
    looks = [Look(started_s, 0, started_s)]
    while looks[-1].clicks < clicks:
        asked_s = time.perf_counter()
        looks.append(Look(asked_s, done(), time.perf_counter()))
        if not alive.running() or time.monotonic() > deadline:
            raise RuntimeError(f"{alive.name} stopped at {looks[-1].clicks} of {clicks} clicks.\n{alive.tail(30)}")
        time.sleep(0.02)
    return second_half(looks, clicks)


def second_half(looks: Sequence[Look], clicks: int) -> float:
    """Clicks a second from when half of them were counted until all were; of a run too short for that, from its start.

    The first look is the start, with no clicks.
    Half may have been counted at any time after the look before: the clock runs from there, since on a busy machine a
    look takes its time, and what is counted meanwhile must make nobody faster.
    """
    pairs = itertools.pairwise(looks)
    began = next(((last.asked_s, look.clicks) for last, look in pairs if clicks // 2 <= look.clicks < clicks), None)
    begin_s, before = began or (looks[0].asked_s, 0)
    return (clicks - before) / (looks[-1].answered_s - begin_s)


@contextmanager
def committed(broker: str, group: str) -> Iterator[Callable[[], dict[int, int]]]:
    """Asks for the group's committed offsets, by partition."""

    async def client() -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        await admin.start()
        return admin

    with asyncio.Runner() as runner:
        admin = runner.run(client())

        def offsets() -> dict[int, int]:
            found = runner.run(admin.list_consumer_group_offsets(group))
            return {tp.partition: one.offset for tp, one in found.items()}

        try:
            yield offsets
        finally:
            runner.run(admin.close())


async def changelog_sums(broker: str, topic: str) -> dict[str, int]:
    """What a store's changelog says by key, summed over partitions: transactions that ended only."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    newest: dict[tuple[int, bytes], int] = {}
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    newest[tp.partition, record.key] = int.from_bytes(record.value, "big")
    finally:
        await consumer.stop()
    sums: Counter[str] = Counter()
    for (_, key), count in newest.items():
        sums[key.decode()] += count
    return sums


def _process(service: ServiceProcess) -> Path:
    return Path(f"/proc/{service.process.pid if service.process else 0}")


def _peak_mb_if_alive(pid: int) -> int:
    try:
        return peak_mb(Path(f"/proc/{pid}"))
    except (OSError, StopIteration):
        return 0
