"""What many nodes give, and what they cost: one server beside a cluster of 2 x 2, on this machine.

    flattr bench fleet --json .bench/fleet.json

The same three months are closed on both, and their proofs compared to the last byte; flushes of the same clicks go to
both in turns; a replica is killed under a counting worker; a server's disk is lost and its backup verified; one worker
and two count the same topic; the log grows under load; and `flattr chaos` runs with replicas. Wants `make kafka` and
`make zookeeper`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import close as months
from benchmarks import grow
from benchmarks.streams import PARTITIONS, counted, counting_worker, recovered_at, wait_for
from benchmarks.streams_traffic import by_partition, fill, lines
from deploy.cli.commands.backup import stages
from deploy.proving.chaos.run import ChaosPlan, run_chaos
from deploy.proving.rig.cluster import Cluster
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ApacheKafka, EmbeddedWarehouse
from ingest.runtime.clock import system_clock
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.precompile import precompile
from streams.sink.flush_rows import Rows
from streams.sink.writer import LANES, Writer
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from warehouse.payout.audit.verify import verify_month
from warehouse.storage.backup import back_up
from warehouse.storage.backup_target import Target
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate
from warehouse.storage.restore import restore

_MONTHS: Final = (202609, 202610, 202611)
_FLUSH_CLICKS: Final = 1000
_BLOCK_CLICKS: Final = 200
_SEALED: Final = "sealed"
#: How long a replica is away: longer than its session with the coordinator lasts.
_AWAY_S: Final = 10.0


def run(
    *, pairs: int = 200_000, flushes: int = 40, clicks: int = 400_000, faults: int = 60,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure everything once. ``pairs`` are those of each of three months, ``clicks`` those that workers count."""
    precompile()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-fleet-")))
        server = stack.enter_context(EmbeddedWarehouse(folder / "one"))
        broker = stack.enter_context(ApacheKafka(folder / "broker"))
        with Cluster(folder / "many") as cluster:
            say("closing three months on one server and on the cluster")
            figures = _seals(server.url, cluster.url, pairs)
            say("flushing to both in turns")
            figures |= _flushes(server.url, cluster.url, flushes)
            say("a shard of two replicas without one of them, and with it again")
            figures |= _returned(cluster, broker.address, folder)
        say("a shard of three replicas without one of them")
        with Cluster(folder / "three", shards=1, replicas=3) as cluster:
            figures |= _failover(cluster, broker.address, folder)
        say("losing the disk of one server")
        figures |= _restored(server)
        say("one worker, then two")
        figures |= _workers(server, broker.address, folder, clicks)
        broker.stop()
        say("the log grows to twice as many partitions, under load")
        figures |= _grown(server, folder / "grown")
        server.stop()
        say(f"chaos with replicas, {faults} faults")
        figures |= _chaos(folder / "chaos", faults, say)
    return figures


@contextmanager
def _database(url: str, name: str, *, of_cluster: bool = False) -> Iterator[Warehouse]:
    with closing(Warehouse(f"{url}/{name}{'?cluster=flattr' if of_cluster else ''}", timeout_s=600)) as warehouse:
        migrate(warehouse)
        yield warehouse


def _seals(one: str, many: str, pairs: int) -> dict[str, Any]:
    """Whether three months end in the same bytes, and what their closes took."""
    proofs, close_s = [], []
    for url, of_cluster in ((one, False), (many, True)):
        with _database(url, _SEALED, of_cluster=of_cluster) as warehouse:
            flattrs = months.fill(warehouse, pairs, _MONTHS)
            began = time.perf_counter()
            proofs.append([months.close(warehouse, month).text() for month in _MONTHS])
            close_s.append(time.perf_counter() - began)
    return {
        "seals_equal": proofs[0] == proofs[1],
        "seals_months": len(_MONTHS),
        "seals_flattrs": flattrs,
        "close_s_one": round(close_s[0] / len(_MONTHS), 2),
        "close_s_cluster": round(close_s[1] / len(_MONTHS), 2),
    }


def _flushes(one: str, many: str, flushes: int) -> dict[str, Any]:
    """The same flushes, each to one server and then to the cluster."""
    took_s: dict[str, list[float]] = {"one": [], "cluster": []}
    with ExitStack() as stack:
        server = stack.enter_context(_database(one, "flushed"))
        nodes = stack.enter_context(_database(many, "flushed", of_cluster=True))
        writers = {
            name: stack.enter_context(closing(Writer(warehouse, patience_s=60, lanes=LANES)))
            for name, warehouse in (("one", server), ("cluster", nodes))
        }
        for rows in _flush_rows(flushes):
            for name, writer in writers.items():
                began = time.perf_counter()
                writer.write(rows)
                took_s[name].append(time.perf_counter() - began)
    p50_ms = {name: statistics.median(times) * 1000 for name, times in took_s.items()}
    return {
        **{f"flush_ms_p50_{name}": round(value, 1) for name, value in p50_ms.items()},
        "flush_cluster_to_one": round(p50_ms["cluster"] / p50_ms["one"], 2),
        "flush_clicks": _FLUSH_CLICKS,
    }


def _flush_rows(flushes: int) -> Iterator[Rows]:
    """What a worker of one partition writes: ``_FLUSH_CLICKS`` clicks each time."""
    at_ms = system_clock()
    state, month = PartitionState(0), MonthState()
    rules = CountingRules(1, 0, 3_600_000, "clicks")
    made = [line for _, line in lines(flushes * _FLUSH_CLICKS, at_ms=at_ms, seed=3)]
    for number in range(flushes):
        rows = Rows()
        block = b"\n".join(made[number * _FLUSH_CLICKS : (number + 1) * _FLUSH_CLICKS])
        count_records(state, [LogRecord(number, at_ms, block)], rules, lambda _: month, rows)
        add_progress(state, at_ms, rows)
        yield rows


def _failover(cluster: Cluster, broker: str, folder: Path) -> dict[str, Any]:
    """Seconds from the kill of the node that a worker speaks with until what came after it is counted."""
    with _counting(cluster, broker, folder, "failover") as (count, send):
        cluster.nodes[0].kill()
        killed = time.monotonic()
        send()
        count()
        return {"failover_s": round(time.monotonic() - killed, 2)}


def _returned(cluster: Cluster, broker: str, folder: Path) -> dict[str, Any]:
    """Seconds from the start of one of two replicas, without which nothing is written, until all is counted."""
    with _counting(cluster, broker, folder, "returned") as (count, send):
        cluster.nodes[0].kill()
        send()
        time.sleep(_AWAY_S)
        started = time.monotonic()
        cluster.nodes[0].start()
        count()
        return {"returned_s": round(time.monotonic() - started, 2)}


@contextmanager
def _counting(
    cluster: Cluster, broker: str, folder: Path, name: str
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A worker that counts on the cluster. Yields what waits until all is counted, and what sends more clicks."""
    at_ms = system_clock()
    plans = [TopicPlan(name, PARTITIONS).unbounded(), TopicPlan("rejected", 1)]
    asyncio.run(create_topics(broker, plans))
    sent = 0

    def send() -> None:
        nonlocal sent
        made = list(lines(4000, at_ms=at_ms, seed=sent))
        asyncio.run(fill(broker, name, by_partition(made, PARTITIONS), block=_BLOCK_CLICKS, at_ms=at_ms))
        sent += len(made)

    with _database(cluster.url, name, of_cluster=True) as warehouse:
        elsewhere = Warehouse(warehouse.url, topology=warehouse.topology.only(*reversed(warehouse.topology.nodes)))
        with closing(elsewhere), counting_worker(folder, broker, warehouse.url, name, group=name) as worker:

            def count() -> None:
                wait_for(lambda: counted(elsewhere, 0) >= sent, worker)

            wait_for(lambda: recovered_at(worker), worker)
            send()
            count()
            yield count, send


def _restored(server: EmbeddedWarehouse) -> dict[str, Any]:
    """Whether every closed month verifies after the disk was lost, and how long the way back took."""
    target = Target("disk", "backups")
    with closing(Warehouse(f"{server.url}/{_SEALED}", timeout_s=600)) as lost:
        before = [str(verify_month(lost, month)) for month in _MONTHS]
        back_up(lost, target, "fleet", stages())
    server.kill()
    shutil.rmtree(server.folder / "data")
    server.start()
    with closing(Warehouse(f"{server.url}/{_SEALED}", timeout_s=600)) as back:
        began = time.perf_counter()
        restore(back, target, "fleet", stages())
        restore_s = time.perf_counter() - began
        findings = [verify_month(back, month) for month in _MONTHS]
    clean = all(found.clean for found in findings) and [str(found) for found in findings] == before
    return {"restore_verified": clean, "restore_s": round(restore_s, 2)}


def _workers(server: EmbeddedWarehouse, broker: str, folder: Path, clicks: int) -> dict[str, Any]:
    """A topic that is written as fast as it can be, counted by one worker and by two."""
    one_per_s, two_per_s = (_counted_per_s(workers, server, broker, folder, clicks) for workers in (1, 2))
    return {
        "workers_1_clicks_per_s": round(one_per_s),
        "workers_2_clicks_per_s": round(two_per_s),
        "workers_efficiency": round(two_per_s / one_per_s / 2, 2),
    }


def _counted_per_s(workers: int, server: EmbeddedWarehouse, broker: str, folder: Path, clicks: int) -> float:
    at_ms, topic = system_clock(), f"workers-{workers}"
    lanes = by_partition(list(lines(clicks, at_ms=at_ms, seed=5)), PARTITIONS)
    asyncio.run(create_topics(broker, [TopicPlan(topic, PARTITIONS).unbounded()]))
    with ExitStack() as stack:
        warehouse = stack.enter_context(_database(server.url, f"workers_{workers}"))
        running = [
            stack.enter_context(
                counting_worker(folder / f"{topic}-{number}", broker, warehouse.url, topic, group=topic)
            )
            for number in range(workers)
        ]
        wait_for(lambda: all(map(recovered_at, running)), running[0])
        began = time.perf_counter()
        asyncio.run(fill(broker, topic, lanes, block=_BLOCK_CLICKS, at_ms=at_ms))
        wait_for(lambda: counted(warehouse, 0) >= clicks, running[0])
        return clicks / (time.perf_counter() - began)


def _grown(server: EmbeddedWarehouse, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    with ApacheKafka(folder / "broker") as broker, _database(server.url, "grown") as warehouse:
        found = grow.run(folder, broker, warehouse)
    return {
        "grow_s": found["grow_s"],
        "grow_clicks": found["grow_clicks"],
        "grow_lost": found["grow_lost"],
        "grow_wrong": found["grow_wrong"],
        "grow_problems": found["grow_problems"],
    }


def _chaos(folder: Path, faults: int, say: Callable[[str], None]) -> dict[str, Any]:
    report = run_chaos(ChaosPlan(folder, faults=faults, seed=2, shards=2, replicas=2, rate=40), say).report()
    return {f"chaos_{name}": value for name, value in report.items() if name not in {"load", "history"}}


if __name__ == "__main__":
    print(json.dumps(run(say=print), indent=1))
