"""The whole stack on Apache Kafka under load and faults; and that a broken guarantee does not pass.

Each run starts an Apache Kafka of its own, since it kills it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.proving.chaos.run import ChaosPlan, ChaosResult, run_chaos
from deploy.proving.chaos.schedule import Fault, Kind
from tests.chaos.broken import command

pytestmark = [pytest.mark.timeout(240), pytest.mark.kafka]


def run(folder: Path, how: str, faults: Sequence[Fault], **load: object) -> ChaosResult:
    """A short run with one guarantee broken and a schedule that hits it."""
    plan = ChaosPlan(folder, schedule=faults, command=command(how), lead_s=1.5, patience_s=8, load=load)
    return run_chaos(plan, print)


def both(at_s: float, kind: Kind, group: str, for_s: float) -> list[Fault]:
    """The same fault on both workers, or on the links of both."""
    return [Fault(at_s, kind, f"{group}-{number}", for_s) for number in (1, 2)]


#: On a slow link a flush takes seconds, so that nearly every kill falls between two of its writes.
KILLED_WHILE_WRITING = [
    *both(0.5, Kind.SLOW, "warehouse", 9.0),
    *[
        Fault(at_s, Kind.KILL, part, 0.2)
        for at_s, part in ((2.5, "streams-1"), (3.3, "streams-2"), (7.5, "streams-1"), (8.5, "streams-2"))
    ],
]


def test_twenty_faults_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    result = run_chaos(ChaosPlan(tmp_path, faults=20, seed=1, every_s=1.0), print)
    report = result.report()
    assert report["problems"] == [], "\n".join(result.history)
    assert report["faults"] == 20
    assert report["acked"] > 500
    assert report["duplicates"] > 0
    assert report["late"] > 0
    assert report["months_closed"] == 2
    assert report["balanced"]
    assert json.loads(json.dumps(report))["lost"] == 0


def test_acknowledging_before_the_broker_has_it_is_found(tmp_path: Path) -> None:
    faults = [Fault(0.5, Kind.STALL, "kafka-1", 2.0), *both(1.8, Kind.KILL, "ingest", 0.3)]
    result = run(tmp_path, "ack-first", faults)
    assert result.report()["lost"] > 0
    assert "is not in the log" in result.history[0]
    assert any("fault" in line and "kill ingest" in line for line in result.history)


def test_stating_the_offset_before_the_insert_is_found(tmp_path: Path) -> None:
    result = run(tmp_path, "offset-first", KILLED_WHILE_WRITING)
    report = result.report()
    assert report["lost"] > 0
    assert "but is missing" in "\n".join(report["problems"])


def test_counts_as_deltas_are_found(tmp_path: Path) -> None:
    result = run(tmp_path, "deltas", KILLED_WHILE_WRITING, undo_share=0.0)
    report = result.report()
    assert report["lost"] == 0
    assert report["wrong_counts"] > 0
    assert "by_creator" in "\n".join(report["problems"])


def test_ingest_that_ends_itself_is_found(tmp_path: Path) -> None:
    result = run(tmp_path, "ends", [Fault(1.0, Kind.CUT, "kafka-1", 0.3), Fault(2.0, Kind.CUT, "kafka-1", 0.3)])
    report = result.report()
    assert not report["good"]
    assert report["lost"] == 0
    assert "ended itself" in "\n".join(report["problems"])
