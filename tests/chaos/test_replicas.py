"""The whole stack, its warehouse two shards of two replicas, whose nodes and coordinator are killed and stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.proving.chaos.run import ChaosPlan, run_chaos
from deploy.proving.chaos.schedule import Fault, Kind

pytestmark = [pytest.mark.timeout(400), pytest.mark.kafka]
FAULTS = [
    Fault(0.3, Kind.KILL, "warehouse-1-1", 3.0),
    Fault(1.0, Kind.PAUSE, "warehouse-2-2", 3.0),
    Fault(5.0, Kind.KILL, "zookeeper", 1.5),
    Fault(6.0, Kind.KILL, "streams-1", 0.5),
    Fault(7.0, Kind.CUT, "warehouse-2-1-2", 1.0),
    Fault(8.5, Kind.KILL, "warehouse-2-1", 1.5),
    Fault(9.0, Kind.MONTH, "clock"),
]


@pytest.mark.usefixtures("cluster_rig")
def test_killed_replicas_and_a_killed_coordinator_lose_nothing(tmp_path: Path) -> None:
    plan = ChaosPlan(tmp_path, shards=2, replicas=2, rate=30, schedule=FAULTS)
    result = run_chaos(plan, print)
    report = result.report()
    assert report["problems"] == [], "\n".join(result.history)
    assert report["acked"] > 300
    assert report["months_closed"] == 2
    assert report["balanced"]
    assert report["exits"] == [], "a worker died of what passes by itself"
