"""One truth: months on a cluster are sealed with the same bytes as on one server, also when a replica is killed."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from deploy.proving.rig.cluster import Cluster, Node
from tests.payout.build import Flattr, clock_after, closing, drained, pledge, state_month
from tests.payout.test_close import close
from tests.quarantine.build import flag
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.close import close_month
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
    with suppress(WarehouseUnavailable, MonthLocked):
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
