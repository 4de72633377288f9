"""Scanning a real month, and dying between any two steps."""

from __future__ import annotations

import pytest

from tests.payout.build import Flattr, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.quarantine.build import MONTH, NOW, flag, release
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import MonthLocked, PayoutRefused
from warehouse.quarantine import desk
from warehouse.quarantine.desk import Outcome
from warehouse.quarantine.log import Subject, read_steps
from warehouse.quarantine.settings import QuarantineSettings
from warehouse.storage.client import Warehouse

ROB = Subject.of(member_id="rob")
BOUNDS = QuarantineSettings(quarantine_velocity_max=8, quarantine_ring_flattrs_min=4, quarantine_site_flattrs_min=5)


def scan(warehouse: Warehouse, month: int = MONTH) -> Outcome:
    return desk.scan(warehouse, month, BOUNDS, by="the scan", clock=lambda: NOW)


RINGS = """
rob rex 9
ann bob 4
bob ann 4
r1 new 4
r2 new 4
r3 new 5
mia ada 2
mia cat 2
"""


def test_scan_flags_each_pattern_with_its_evidence(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of(RINGS))
    assert scan(warehouse).flattrs == 9 + 8 + 13
    found = {(step.rule, str(step.subject)) for step in read_steps(warehouse, MONTH)}
    assert found == {
        ("velocity", "member rob"),
        ("ring_pair", "member ann, creator bob"),
        ("ring_pair", "member bob, creator ann"),
        *(("ring_group", f"member r{n}, creator new") for n in (1, 2, 3)),
        # every flattr of these tests comes from one site; rob's too, and rob is flagged once
        ("site_share", "member r3"),
    }
    (velocity,) = [step for step in read_steps(warehouse, MONTH) if step.rule == "velocity"]
    assert (velocity.evidence, velocity.by, velocity.at_ms) == ('{"flattrs": 9, "window_s": 600}', "the scan", NOW)


def test_scan_leaves_alone_what_was_released_and_flags_nothing_twice(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("rob rex 9"))
    first = scan(warehouse)
    assert scan(warehouse).steps == []
    for step in read_steps(warehouse, MONTH)[: len(first.steps)]:
        release(warehouse, step.subject)
    again = scan(warehouse)
    assert (again.steps, again.flattrs) == ([], 0)


def test_scan_takes_in_what_a_flagged_member_clicked_since(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("rob rex 2"))
    assert flag(warehouse, ROB).flattrs == 2
    state_month(warehouse, MONTH, [*flattrs_of("rob rex 3"), Flattr("mia", "ada", "a")])
    assert scan(warehouse).flattrs == 3


def test_closed_month_is_not_scanned(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("rob rex 9"))
    pledge(warehouse, MONTH, {"rob": 2_000_000})
    close(warehouse)
    with pytest.raises(PayoutRefused, match="2026-11 is closed"):
        scan(warehouse)


class Died(Exception):
    """The process died here."""


def dying(at: str) -> object:
    def step_done(step: str) -> None:
        if step == at:
            raise Died

    return step_done


@pytest.mark.parametrize("at", ["log", "set", "version"])
@pytest.mark.parametrize("after", ["scan", "close", "again"])
def test_flag_that_died_after_a_step_has_its_effect_with_whatever_comes_next(
    warehouse: Warehouse, at: str, after: str
) -> None:
    state_month(warehouse, MONTH, flattrs_of("rob rex 3\nmia ada 2"))
    pledge(warehouse, MONTH, {"rob": 2_000_000, "mia": 2_000_000})
    with pytest.raises(Died):
        flag(warehouse, ROB, step_done=dying(at))  # type: ignore[arg-type]
    shown = warehouse.rows("SELECT count() FROM quarantined")
    assert shown == [(3 if at == "version" else 0,)]
    if after == "scan":
        scan(warehouse)
    elif after == "again":
        with pytest.raises(PayoutRefused, match="already in quarantine"):
            flag(warehouse, ROB)
    if after != "close":
        assert warehouse.rows("SELECT count() FROM quarantined") == [(3,)]
    assert close(warehouse).quarantined == 3
    assert verify_month(warehouse, MONTH).problems == []


def test_flag_that_died_before_its_version_and_was_released_leaves_nothing_behind(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("rob rex 3"))
    with pytest.raises(Died):
        flag(warehouse, ROB, step_done=dying("set"))  # type: ignore[arg-type]
    assert release(warehouse, ROB).flattrs == 0
    assert warehouse.rows("SELECT count() FROM quarantined") == [(0,)]


def test_nothing_is_flagged_while_a_month_closes(warehouse: Warehouse) -> None:
    with locked(warehouse, CLOSE), pytest.raises(MonthLocked):
        flag(warehouse, ROB, unseen=True)
    assert warehouse.rows("SELECT count() FROM quarantine_log") == [(0,)]
