"""The log grows while clicks come in: whether one of them is lost, or anything counted wrongly.

Ingest with a spool, two stream workers and a load on Apache Kafka; the log moves to twice as many partitions; ingest
and the workers begin again with the new topic. What the clients were promised is then held against both topics and
against the warehouse, by the oracle of `flattr chaos`, which shares no code with what it judges.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from deploy.proving.load.plan import LoadPlan
from deploy.proving.load.run import Load
from deploy.proving.oracle import evidence, model, verdict
from deploy.provision.grow import Growth, Places, Wishes
from deploy.provision.topics import TopicPlan, create_topics, rejected_plan
from deploy.stack.embedded import HOST, ROOT, ApacheKafka, ServiceProcess, free_port
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import keygen
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.moves.notes import Step, newest
from warehouse.storage.client import Warehouse

BEFORE: Final = 4
_GRACE_S: Final = 3600
_RATE: Final = 150.0
_LOAD_S: Final = 4.0
_PATIENCE_S: Final = 120.0
_TOPIC: Final = "clicks"

#: Moves the log; its services and the load go on.
Grow = Callable[["Installation"], None]


@dataclasses.dataclass
class Installation:
    """Services of one log on a broker and a warehouse."""

    folder: Path
    broker: str
    warehouse: Warehouse
    ingest_port: int = dataclasses.field(default_factory=free_port)

    @property
    def places(self) -> Places:
        """Where the old log is."""
        return Places(self.broker, {}, _TOPIC, 0, "workers-0", self.warehouse)

    def environment(self, topic: str, epoch: int) -> dict[str, str]:
        """The settings of all services and commands."""
        return {
            "PYTHONPATH": str(ROOT),
            "FLATTR_BROKER": self.broker,
            "FLATTR_WAREHOUSE": self.warehouse.url,
            "FLATTR_TOPIC_CLICKS": topic,
            "FLATTR_LOG_EPOCH": str(epoch),
            "FLATTR_STREAMS_GROUP": f"workers-{epoch}",
            "FLATTR_STREAMS_FLUSH_MS": "50",
            "FLATTR_TOKEN_KEYS": str(self.folder / "token-keys.json"),
            "FLATTR_INGEST_SPOOL": str(self.folder / "spool"),
            "FLATTR_INGEST_SPOOL_FSYNC": "false",
            "FLATTR_INGEST_MEMBER_CLICKS_PER_S": "0",
        }

    @contextmanager
    def services(
        self, topic: str, epoch: int, workers: int = 2
    ) -> Iterator[tuple[ServiceProcess, list[ServiceProcess]]]:
        """Ingest and stream workers."""
        with ExitStack() as stack:
            ingest = stack.enter_context(self._service("ingest", f"ingest-{epoch}", self.ingest_port, topic, epoch))
            yield (
                ingest,
                [
                    stack.enter_context(
                        self._service("streams", f"streams-{epoch}-{number}", free_port(), topic, epoch)
                    )
                    for number in range(workers)
                ],
            )

    def _service(self, command: str, name: str, port: int, topic: str, epoch: int) -> ServiceProcess:
        return ServiceProcess(
            name,
            [sys.executable, "-c", "from deploy.cli.main import main; main()", command],
            folder=self.folder,
            port=port,
            environment=self.environment(topic, epoch) | {f"FLATTR_{command.upper()}_PORT": str(port)},
        )


def grow_at_once(installation: Installation) -> None:
    """Move the log in this process."""
    Growth(installation.places).grow(Wishes(2 * BEFORE, anyway=True), system_clock, _GRACE_S)


def run(
    folder: Path, kafka: ApacheKafka, warehouse: Warehouse, grow: Grow = grow_at_once, load_s: float = _LOAD_S
) -> dict[str, Any]:
    """Let the log grow under load, and judge. ``grow_lost`` and ``grow_wrong`` are to be 0.

    ``warehouse`` is migrated and empty, the broker without topics.
    """
    asyncio.run(create_topics(kafka.address, [TopicPlan(_TOPIC, BEFORE), rejected_plan("rejected")]))
    installation = Installation(folder, kafka.address, warehouse)
    keys, answers = folder / "token-keys.json", folder / "answers"
    keygen(keys, algorithm="HS256", kid="1")
    answers.mkdir()
    plan = LoadPlan(
        urls=(f"http://{HOST}:{installation.ingest_port}/v1/clicks",), token_keys=str(keys), rate=_RATE, members=300,
        creators=30, undo_share=0.1, retry_share=0.1, skew_share=0.2, burst_factor=1.0, answers=str(answers),
        timeout_s=3.0,
    )  # fmt: skip
    with ExitStack() as running:
        with installation.services(_TOPIC, 0) as (ingest, workers):
            load = running.enter_context(Load(plan))
            time.sleep(load_s)
            began = time.monotonic()
            stopping = threading.Thread(target=_stop_when_drained, args=(installation, workers), daemon=True)
            stopping.start()
            grow(installation)
            stopping.join(_PATIENCE_S)
            grow_s = time.monotonic() - began
            time.sleep(load_s / 2)
            accepted_meanwhile = load.now().clicks_accepted
            ingest.stop()
        move, _ = newest(warehouse) or (None, None)
        if move is None:
            raise RuntimeError("the log has not moved")
        with installation.services(move.topic, move.epoch):
            time.sleep(load_s)
            load.stop()
            result = load.result()
            _wait_until_counted(installation, move.topic, move.partitions)
            found = _judge(installation, move.topic, move.partitions, answers)
    return {
        "grow_s": round(grow_s, 2), "grow_partitions": [move.from_partitions, move.partitions],
        "grow_clicks": result.clicks_accepted, "grow_clicks_before_new_settings": accepted_meanwhile, **found,
    }  # fmt: skip


def _stop_when_drained(installation: Installation, workers: list[ServiceProcess]) -> None:
    """What the operator does when the command says so."""
    warehouse = Warehouse(installation.warehouse.url)
    while (found := newest(warehouse)) is None or found[1] is Step.BEGUN:
        time.sleep(0.1)
    warehouse.close()
    for worker in workers:
        worker.stop()


def _wait_until_counted(installation: Installation, topic: str, partitions: int) -> None:
    """Until ingest's spool is sent and the workers have counted to the log's end, which stands still."""
    give_up_at = time.monotonic() + _PATIENCE_S
    spool = installation.folder / "spool"
    while True:
        ends = evidence.log_ends(installation.broker, topic, partitions)
        counted = evidence.counted_to(installation.warehouse.url)
        waiting = list(spool.rglob("*.segment"))
        if not waiting and all(counted[number] % (1 << 40) == end for number, end in ends.items()):
            return
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"not counted: {ends} {counted} {waiting}")
        time.sleep(0.2)


def _judge(installation: Installation, topic: str, partitions: int, answers: Path) -> dict[str, Any]:
    """Hold promises, both topics and the warehouse against each other."""
    old = evidence.read_log(installation.broker, _TOPIC, BEFORE)
    new = evidence.read_log(installation.broker, topic, partitions)
    promised = {one.click_id for one in evidence.promises(evidence.read_attempts(answers))}
    lines = [*old, *(dataclasses.replace(line, place=_later(line.place)) for line in new)]
    expected = model.expect(lines, _GRACE_S)
    stated = evidence.read_stated(
        installation.warehouse.url, _TOPIC, lambda member_id: model.partition_of(member_id, partitions)
    )
    in_log = {line.click_id for line in lines}
    problems = [
        *verdict.check_places(old, BEFORE),
        *verdict.check_places(new, partitions),
        *verdict.check_counts(expected, stated),
        *_flattrs(expected, stated),
        *_tallies(expected, stated),
    ]
    reached = read_reached(installation.warehouse, partitions, 1)
    problems += [str(one) for one in check_warehouse(installation.warehouse, reached) if not one.holds]
    return {
        "grow_lost": len(promised - in_log),
        "grow_wrong": len(problems),
        "grow_problems": [str(problem) for problem in problems[:20]],
        "grow_in_old": len(old),
        "grow_in_new": len(new),
        "grow_duplicates": Counter(expected.labels.values())["duplicate"],
    }


def _later(place: evidence.Place) -> evidence.Place:
    """A place of the new log, which has the old one's numbers too."""
    partition, offset, index = place
    return partition, offset | 1 << 41, index


def _flattrs(expected: model.Expected, stated: evidence.Stated) -> Iterator[str]:
    """Flattrs that are missing, too many, undone by mistake, or counted by another click."""
    for key in expected.last_word.keys() | stated.flattrs.keys():
        row, word, line = stated.flattrs.get(key), expected.last_word.get(key), expected.counted.get(key)
        said = None if row is None else (row[3], row[0] if row[1] is not None else "")
        want = None if word is None else (not word[1], "" if line is None else line.click_id)
        if said != want:
            yield f"flattr {key} is {said}, should be {want}"


def _tallies(expected: model.Expected, stated: evidence.Stated) -> Iterator[str]:
    """Tallies by month: those of a partition belong to two logs."""
    want, said = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    for (_, month), tally in expected.tallies.items():
        want.update({(month, label): clicks for label, clicks in tally.items() if clicks})
    for (_, month), values in stated.tallies.items():
        said.update({(month, label): clicks for label, clicks in zip(model.LABELS, values, strict=True) if clicks})
    if want != said:
        yield f"tallies are {dict(said)}, should be {dict(want)}"


if __name__ == "__main__":
    import json
    import tempfile

    from deploy.stack.embedded import EmbeddedWarehouse
    from warehouse.storage.migrate import migrate

    with ExitStack() as running:
        where = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="flattr-grow-")))
        server = running.enter_context(EmbeddedWarehouse(where / "warehouse"))
        database = Warehouse(f"{server.url}/flattr")
        migrate(database)
        print(json.dumps(run(where, running.enter_context(ApacheKafka(where / "kafka")), database), indent=1))
