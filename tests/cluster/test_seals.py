"""One truth: months on a cluster are sealed with the same bytes as on one server, also when a replica is killed."""

from __future__ import annotations

import contextlib
import random
import threading

import pytest

from deploy.proving.rig.cluster import Cluster, Node
from tests.payout.build import Flattr, clock_after, closing, drained, pledge, state_month
from tests.payout.test_close import close
from tests.quarantine.build import flag
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.close import close_month
from warehouse.payout.close.gate import check_drained
from warehouse.payout.close.lock import locked
from warehouse.payout.errors import MonthLocked
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseUnavailable

#: Starts four servers, and a busy machine takes its time.
pytestmark = pytest.mark.timeout(300)
MONTHS = (202609, 202610, 202611)


def flattrs(month: int, members: int = 30) -> list[Flattr]:
    dice = random.Random(month)
    return [
        Flattr(f"m{member}", f"c{creator}", f"https://c{creator}.example/{thing}", undone=dice.random() < 0.1)
        for member in range(members)
        for creator in dice.sample(range(20), dice.randrange(6))
        for thing in range(dice.randrange(1, 3))
    ]


def fill(warehouse: Warehouse, month: int) -> None:
    state_month(warehouse, month, flattrs(month), duplicates=month % 7)
    pledge(warehouse, month, {f"m{member}": 1_000_000 * (1 + member % 5) for member in range(0, 36, 2)}, unpaid=["m4"])


def close_while_killing(warehouse: Warehouse, month: int, victim: Node) -> None:
    """Kill the node that the close speaks with once the pools are staged; the close may end with a plain outage."""
    stages: list[str] = []

    def progress(stage: str, _percent: int) -> None:
        stages.append(stage)
        if stage == "pools":
            victim.kill()

    rules = closing()
    with contextlib.suppress(WarehouseUnavailable, MonthLocked):
        close_month(
            warehouse, month, clock=clock_after(month, rules), log_ends=drained, settings=rules, progress=progress
        )
    assert "pools" in stages
    victim.start()


def test_three_months_are_sealed_alike_with_a_quarantine_and_a_replica_killed(
    warehouse: Warehouse, many: Warehouse, cluster: Cluster
) -> None:
    """The second month has a quarantine; in the third's close a replica is killed, and comes back."""
    for month in MONTHS:
        for place in (warehouse, many):
            fill(place, month)
            if month == MONTHS[1]:
                flag(place, Subject("member", member_id="m2"), month=month)
                flag(place, Subject("creator", creator_id="c3"), month=month)
        if month == MONTHS[2]:
            close_while_killing(many, month, cluster.nodes[0])
        alone = close(warehouse, month)
        assert (alone.quarantined > 0) == (month == MONTHS[1])
        assert close(many, month).text() == alone.text()
    assert [str(verify_month(many, month)) for month in MONTHS] == [
        str(verify_month(warehouse, month)) for month in MONTHS
    ]
    for view in ("creator_flattrs", "day_flattrs", "closed_months"):
        shown = f"SELECT * FROM {view} ORDER BY ALL"
        assert (rows := many.rows(shown)) == warehouse.rows(shown)
        assert rows


def test_rows_that_a_replica_has_not_fetched_are_waited_for_by_the_lock_and_by_the_gate(
    many: Warehouse, cluster: Cluster
) -> None:
    """As with three replicas of which two have the rows: the third is asked first, and is behind for a second."""
    behind, ahead = cluster.shards[0]
    timers = []

    def on(node: Node, statement: str) -> None:
        with contextlib.closing(Warehouse(many.url, topology=many.topology.server(("127.0.0.1", node.port)))) as server:
            server.command(statement)

    def write_ahead() -> dict[int, int]:
        on(behind, "SYSTEM STOP FETCHES flattrs_here")
        on(ahead, "INSERT INTO flattrs_here (month, member_id, thing_id) SELECT 202611, 'mia', randomFixedString(16)")
        timers.append(threading.Timer(1, on, (behind, "SYSTEM START FETCHES flattrs_here")))
        timers[-1].start()
        return {}

    def seen(warehouse: Warehouse) -> int:
        ((rows,),) = warehouse.rows("SELECT count() FROM flattrs")
        return int(rows)

    write_ahead()
    with locked(many, "tried") as held:
        assert seen(held) == 1
    check_drained(many, 202611, write_ahead, closing())
    assert seen(many) == 2
    for timer in timers:
        timer.join()
