"""Counts that are not what the flattrs say: the close states them anew, writes it down, and pays by the flattrs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.contract.position import position
from tests.payout.build import PARTITIONS, clock_after, closing, drained, flattrs_of, partition_of, pledge, state_month
from tests.payout.test_close import close
from tests.payout.test_crash import published, retried
from tests.streams.test_forged import FORGED
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.close import rehearse_month
from warehouse.payout.close.recount import Restated, check_recount, restated
from warehouse.payout.errors import NotConserved
from warehouse.storage.client import Warehouse

MONTH = 202611
FLATTRS = f"mia ada 2\nmia bob 1\nleo ada 3\nleo {FORGED} 1\nzoe cat 2"
TABLES = ("counts_by_member", "counts_by_creator", "counts_by_thing")


def fill(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of(FLATTRS))
    pledge(warehouse, MONTH, {"mia": 2_000_000, "leo": 3_000_000, "zoe": 1_000_000})


def spoil(warehouse: Warehouse, table: str, change: str, where: str) -> None:
    """State some counts again, wrongly, as of the click that the stream's newest row is of."""
    columns = {
        "counts_by_member": "month, member_id, creator_id",
        "counts_by_creator": "month, creator_id, partition",
        "counts_by_thing": "month, creator_id, thing_id, partition",
    }[table]
    warehouse.command(
        f"INSERT INTO {table} ({columns}, flattrs, position) SELECT {columns}, {change}, position + 1 "
        f"FROM {table} FINAL WHERE month = {MONTH} AND {where}",
        {"forged": FORGED},
    )


def melted(warehouse: Warehouse) -> None:
    """What the forged creator's clicks did while both had one hash: each row states the sum of both."""
    for table, column in (("counts_by_creator", "creator_id"), ("counts_by_member", "creator_id")):
        spoil(warehouse, table, "flattrs + 3", f"{column} = %(forged)s")


def lost_and_invented(warehouse: Warehouse) -> None:
    home = partition_of("zoe")
    warehouse.insert(
        "counts_by_creator",
        {"month": [MONTH], "creator_id": ["nobody"], "partition": [home], "flattrs": [9], "position": [5]},
    )
    for table in TABLES:
        spoil(warehouse, table, "0", "creator_id = 'ada'")


def exchanged(warehouse: Warehouse) -> None:
    """The sums stay what they were."""
    for table in TABLES:
        spoil(warehouse, table, "flattrs + 1", "creator_id = 'bob'")
        spoil(warehouse, table, "flattrs - 1", "creator_id = 'cat'" + " LIMIT 1" * (table == "counts_by_thing"))


def past_progress(warehouse: Warehouse) -> None:
    """As of a click that there never was."""
    warehouse.insert(
        "counts_by_member",
        {
            "month": [MONTH],
            "member_id": ["mia"],
            "creator_id": ["ada"],
            "flattrs": [77],
            "position": [position(3, 9, 9)],
        },
    )


def as_counted(warehouse: Warehouse) -> list[object]:
    """The counts that readers see."""
    return [
        warehouse.rows(f"SELECT {key}, flattrs FROM {table} FINAL WHERE flattrs > 0 ORDER BY ALL")
        for table, key in (
            ("counts_by_member", "month, member_id, creator_id"),
            ("counts_by_creator", "month, creator_id, partition"),
            ("counts_by_thing", "month, creator_id, thing_id, partition"),
        )
    ]


@pytest.fixture
def right(warehouse: Warehouse) -> tuple[list[object], list[object]]:
    """Counts and published month of a close that found nothing to restate; the warehouse then stands before it."""
    fill(warehouse)
    counts = as_counted(warehouse)
    close(warehouse)
    assert restated(warehouse, MONTH) is None
    assert as_counted(warehouse) == counts
    stated = published(warehouse)
    for table in ("seals", "seals_noted", "close_log", "pools", "payouts", "ledger"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    return counts, stated


@pytest.mark.parametrize("wrong", [melted, lost_and_invented, exchanged, past_progress])
def test_month_whose_counts_are_wrong_is_closed_by_its_flattrs_and_its_counts_are_right_afterwards(
    warehouse: Warehouse, right: tuple[list[object], list[object]], wrong: Callable[[Warehouse], None]
) -> None:
    counts, stated = right
    wrong(warehouse)
    assert as_counted(warehouse) != counts
    assert close(warehouse).balanced
    assert published(warehouse) == stated
    assert as_counted(warehouse) == counts
    done = restated(warehouse, MONTH)
    assert done is not None
    assert done.lines >= 1
    assert verify_month(warehouse, MONTH).problems == []
    assert all(check.holds for check in check_warehouse(warehouse, read_reached(warehouse, PARTITIONS)))


def test_each_restated_line_is_written_down_with_both_numbers_and_the_largest_is_told(warehouse: Warehouse) -> None:
    fill(warehouse)
    spoil(warehouse, "counts_by_creator", "flattrs + 40", "creator_id = %(forged)s")
    spoil(warehouse, "counts_by_member", "flattrs + 3", "member_id = 'mia' AND creator_id = 'ada'")
    close(warehouse)
    assert str(restated(warehouse, MONTH)) == (
        f"2 counts of 2026-11, the largest difference: creator {FORGED} was stated as 41 and has 1"
    )
    lines = warehouse.rows("SELECT counts, member_id, creator_id, stated, flattrs FROM restated_counts ORDER BY counts")
    assert lines == [("by_creator", "", FORGED, 41, 1), ("by_member", "mia", "ada", 5, 2)]


def test_dry_run_says_what_a_close_would_restate_and_restates_nothing(warehouse: Warehouse) -> None:
    fill(warehouse)
    melted(warehouse)
    before, found, rules = as_counted(warehouse), list[Restated](), closing()
    rehearse_month(
        warehouse, MONTH, clock=clock_after(MONTH, rules), log_ends=drained, settings=rules, differs=found.append
    )
    assert [one.lines for one in found] == [2]
    assert as_counted(warehouse) == before
    assert restated(warehouse, MONTH) is None


def test_restated_count_outdoes_what_a_replay_writes_and_gives_way_to_a_later_click(warehouse: Warehouse) -> None:
    fill(warehouse)
    melted(warehouse)
    close(warehouse)
    counts = as_counted(warehouse)
    home = partition_of("leo")
    ((reached,),) = warehouse.rows(f"SELECT max(position) FROM progress WHERE partition = {home}")
    row: dict[str, list[object]] = {"month": [MONTH], "creator_id": [FORGED], "partition": [home]}
    warehouse.insert("counts_by_creator", {**row, "flattrs": [4], "position": [reached - 1]})
    assert as_counted(warehouse) == counts
    warehouse.command("OPTIMIZE TABLE counts_by_creator FINAL")
    assert as_counted(warehouse) == counts
    later = position(0, (reached >> 16 & ((1 << 40) - 1)) + 1, 0)
    warehouse.insert("counts_by_creator", {**row, "flattrs": [2], "position": [later]})
    asked = "SELECT flattrs FROM counts_by_creator FINAL WHERE creator_id = %(forged)s"
    assert warehouse.rows(asked, {"forged": FORGED}) == [(2,)]


def test_pools_that_do_not_hold_the_flattrs_are_no_matter_of_counts(warehouse: Warehouse) -> None:
    """What the close itself computed wrongly, no restating mends."""
    from warehouse.payout.close import compute, gate
    from warehouse.payout.close.snapshot import take_snapshot

    fill(warehouse)
    rules, snapshot = closing(), take_snapshot(warehouse, MONTH)
    compute.stage(warehouse, MONTH, rules, snapshot, ["pools"])
    warehouse.command(
        "ALTER TABLE pools_staging UPDATE flattrs = flattrs + 1 WHERE member_id = 'mia'", settings={"mutations_sync": 2}
    )
    tallies = gate.read_tallies(warehouse, MONTH)
    with pytest.raises(NotConserved, match="the 10 flattrs in pools and quarantine are not the 9 active ones"):
        check_recount(warehouse, MONTH, rules, snapshot, tallies, lambda: PARTITIONS, restate=True)
    assert restated(warehouse, MONTH) is None


CHILD = """
import os, signal, sys
from tests.payout.build import clock_after, closing, drained
from warehouse.storage.client import Warehouse
from warehouse.payout.close.close import close_month

def step_done(step, _percent):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

rules = closing()
close_month(Warehouse(sys.argv[1]), 202611, clock=clock_after(202611, rules), log_ends=drained, settings=rules,
            progress=step_done)
"""


@pytest.mark.parametrize(
    "step", ["counts differ", "restated by_member", "restated by_creator", "restated by_thing", "compute"]
)
def test_close_killed_between_the_steps_of_restating_is_taken_up_to_the_same_seal_and_counts(
    warehouse: Warehouse, right: tuple[list[object], list[object]], step: str
) -> None:
    counts, stated = right
    lost_and_invented(warehouse)
    with subprocess.Popen([sys.executable, "-c", CHILD, warehouse.url, step], env=os.environ) as child:
        assert child.wait() == -signal.SIGKILL
    assert retried(lambda: close(warehouse)).balanced
    assert published(warehouse) == stated
    assert as_counted(warehouse) == counts
    lines = warehouse.rows(
        "SELECT count(), uniqExact(counts, member_id, creator_id, thing_id, partition) FROM restated_counts FINAL"
    )
    assert lines[0][0] == lines[0][1]
    assert verify_month(warehouse, MONTH).problems == []


NAMES = st.sampled_from(["ada", "bob", "cat", FORGED, "nobody"])
MEMBERS = st.sampled_from(["mia", "leo", "zoe"])
POSITIONS = st.integers(1, 1 << 58)
SPOILT = st.tuples(
    st.sampled_from(TABLES), st.integers(0, 5), NAMES, st.integers(0, PARTITIONS - 1), MEMBERS, POSITIONS
)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SPOILT, min_size=1, max_size=8))
def test_whatever_stands_in_the_counts_a_close_leaves_them_as_the_flattrs_say(
    warehouse: Warehouse, rows: list[tuple[str, int, str, int, str, int]]
) -> None:
    for table in (
        *TABLES,
        "flattrs",
        "progress",
        "seals",
        "seals_noted",
        "close_log",
        "pools",
        "payouts",
        "ledger",
        "pledges",
        "restated_counts",
    ):
        warehouse.command(f"TRUNCATE TABLE {table}")
    fill(warehouse)
    counts = as_counted(warehouse)
    for table, flattrs, creator, partition, member, at in rows:
        keys: dict[str, dict[str, list[object]]] = {
            "counts_by_member": {"member_id": [member]},
            "counts_by_creator": {"partition": [partition]},
            "counts_by_thing": {"partition": [partition], "thing_id": [bytes([partition]) * 16]},
        }
        warehouse.insert(
            table, {"month": [MONTH], "creator_id": [creator], "flattrs": [flattrs], "position": [at], **keys[table]}
        )
    close(warehouse)
    assert as_counted(warehouse) == counts
