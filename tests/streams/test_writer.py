"""The tables of a step go out side by side, and a step is over before the next one begins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from streams.app import UNMERGED
from streams.errors import StreamStopped
from streams.sink.flush_rows import STEPS, Rows
from streams.sink.writer import Writer
from streams.state.partition import PartitionState
from tests.streams.test_recovery import PARTITIONS, count_all
from tests.support.clicks import traffic
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseRefused

COUNTS = dict(STEPS)["counts"]


class Meeting(Warehouse):
    """Inserts into tables of counts wait for each other: alone, one would wait until the barrier breaks."""

    def __init__(self, url: str, refused: str = "") -> None:
        super().__init__(url)
        self.barrier = threading.Barrier(len(COUNTS))
        self.refused = refused
        self.under_way: set[str] = set()
        self.seen: list[tuple[str, frozenset[str]]] = []

    def insert(self, table: str, *arguments: object, **more: object) -> int:
        self.under_way.add(table)
        self.seen.append((table, frozenset(self.under_way)))
        try:
            if table in COUNTS:
                self.barrier.wait(20)
            if table == self.refused:
                raise WarehouseRefused("refused by the test", 497)
            return super().insert(table, *arguments, **more)  # type: ignore[arg-type] # passed on unchanged
        finally:
            self.under_way.discard(table)


def flush() -> Rows:
    return count_all([PartitionState(number) for number in range(PARTITIONS)], traffic(500, undo=0.2))


@pytest.fixture
def meeting(warehouse: Warehouse) -> Iterator[Meeting]:
    with closing(Meeting(warehouse.url)) as found:
        yield found


def test_tables_of_a_step_go_out_side_by_side_and_the_next_step_waits_for_them(meeting: Meeting) -> None:
    steps: list[tuple[str, set[str]]] = []
    writer = Writer(
        meeting, patience_s=5, lanes=2, after_step=lambda step: steps.append((step, set(meeting.under_way)))
    )
    with closing(writer):
        writer.write(flush())
    assert steps == [(step, set()) for step, _ in STEPS]
    step_of = {table: step for step, tables in STEPS for table in tables}
    for table, beside in meeting.seen:
        assert {step_of[other] for other in beside} == {step_of[table]}
    counted = meeting.rows("SELECT count() FROM counts_by_member")
    assert counted[0][0] > 0


@pytest.mark.parametrize("refused", COUNTS)
def test_step_that_fails_ends_when_none_of_it_is_under_way(warehouse: Warehouse, refused: str) -> None:
    with closing(Meeting(warehouse.url, refused)) as meeting, closing(Writer(meeting, patience_s=5, lanes=2)) as writer:
        with pytest.raises(StreamStopped, match=f"refuses rows of {refused}"):
            writer.write(flush())
        assert meeting.under_way == set()
        assert meeting.rows("SELECT count() FROM progress") == [(0,)]
        others = [table for table in COUNTS if table != refused]
        for table in others:
            assert meeting.rows(f"SELECT count() > 0 FROM {table}") == [(1,)]


def test_lanes_leave_with_the_writer(warehouse: Warehouse) -> None:
    writer = Writer(warehouse, patience_s=5, lanes=3)
    writer.write(flush())
    named = [thread for thread in threading.enumerate() if thread.name.startswith("write-")]
    assert named
    writer.close()
    for thread in named:
        thread.join(10)
    assert not any(thread.is_alive() for thread in named)


def test_what_a_flush_inserts_is_one_file_a_part_until_it_is_merged(warehouse: Warehouse) -> None:
    unmerged = Warehouse(warehouse.url, settings=UNMERGED)
    with closing(unmerged), closing(Writer(unmerged, patience_s=5)) as writer:
        writer.write(flush())
    inserted = warehouse.rows(
        "SELECT DISTINCT table, part_storage_type FROM system.parts "
        "WHERE database = currentDatabase() AND level = 0 AND table IN %(tables)s",
        {"tables": [table for _, tables in STEPS for table in tables]},
    )
    assert dict(inserted).keys() >= {"flattrs", "duplicates", "progress", *COUNTS}
    assert set(dict(inserted).values()) == {"Packed"}
    warehouse.command("OPTIMIZE TABLE flattrs FINAL")
    merged = warehouse.rows(
        "SELECT DISTINCT part_storage_type FROM system.parts "
        "WHERE database = currentDatabase() AND active AND table = 'flattrs'"
    )
    assert merged == [("Full",)]
