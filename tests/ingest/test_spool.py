"""The spool on disk: order, crashes, caps."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.log.spool import Record, Spool, SpoolFull, open_slots


def opened(folder: Path, *, max_bytes: int = 1 << 20, segment_max_bytes: int = 200) -> Spool:
    return Spool(folder, max_bytes=max_bytes, segment_max_bytes=segment_max_bytes, fsync=False)


def record(number: int) -> Record:
    return Record(number, 1, b"click %d" % number)


def emptied(spool: Spool) -> list[Record]:
    found: list[Record] = []
    while not spool.empty:
        found += spool.read()
        spool.release()
    return found


def test_records_come_back_in_their_order_over_many_segments(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(100):
        spool.append([record(number)])
    assert len(list(tmp_path.glob("*.segment"))) > 5
    assert spool.waiting_clicks == 100
    assert emptied(spool) == [record(number) for number in range(100)]
    assert (spool.waiting_bytes, spool.waiting_clicks, list(tmp_path.glob("*.segment"))) == (0, 0, [])
    spool.close()


def test_what_was_read_and_not_released_is_read_again_after_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(20):
        spool.append([record(number)])
    first = spool.read()
    spool.release()
    assert spool.read()[0] == record(len(first))
    spool.close()
    again = opened(tmp_path)
    assert emptied(again) == [record(number) for number in range(len(first), 20)]
    again.close()


def test_writing_goes_on_while_it_is_read(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_max_bytes=10_000)
    found = []
    for number in range(50):
        spool.append([record(number)])
        if number % 3 == 0:
            found += spool.read()
            spool.append([record(1000 + number)])
            spool.release()
    found += emptied(spool)
    assert sorted(found) == sorted([record(n) for n in range(50)] + [record(1000 + n) for n in range(0, 50, 3)])
    spool.close()


@pytest.mark.parametrize("cut", range(1, 23))
def test_record_torn_by_a_crash_is_cut_off_and_the_others_stay(tmp_path: Path, cut: int) -> None:
    spool = opened(tmp_path, segment_max_bytes=10_000)
    spool.append([record(1), record(2), record(3)])
    spool.close()
    (segment,) = tmp_path.glob("*.segment")
    os.truncate(segment, segment.stat().st_size - cut)
    again = opened(tmp_path)
    assert again.damaged_bytes == len(record(3).encode()) - cut
    again.append([record(4)])
    assert emptied(again) == [record(1), record(2), record(4)]
    assert not list(tmp_path.glob("*.damaged"))
    again.close()


@pytest.mark.parametrize("bit", range(31 * 8))
def test_a_flipped_bit_anywhere_in_a_record_costs_that_record_alone_and_a_copy_is_kept(
    tmp_path: Path, bit: int
) -> None:
    spool = opened(tmp_path, segment_max_bytes=10_000)
    spool.append([record(1), record(2), record(3)])
    spool.close()
    (segment,) = tmp_path.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[data.index(record(2).encode()) + bit // 8] ^= 1 << bit % 8
    segment.write_bytes(data)
    again = opened(tmp_path)
    assert emptied(again) == [record(1), record(3)]
    assert (again.damaged_bytes, again.damaged_segments) == (31, 1)
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged")] == [bytes(data)]
    assert not list(tmp_path.glob("*.segment"))
    again.close()


def test_cap_refuses_and_room_is_made_by_release(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=100, segment_max_bytes=50)
    spool.append([Record(1, 1, b"x" * 60)])
    with pytest.raises(SpoolFull):
        spool.append([Record(1, 1, b"x" * 60)])
    spool.read()
    spool.release()
    spool.append([Record(1, 1, b"y" * 60)])
    assert emptied(spool) == [Record(1, 1, b"y" * 60)]
    spool.close()


def test_full_disk_leaves_no_half_record_behind(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=1 << 30, segment_max_bytes=1 << 30)
    spool.append([record(1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(SpoolFull):
            spool.append([Record(2, 1, b"x" * 500)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    spool.append([record(3)])
    spool.close()
    again = opened(tmp_path)
    assert again.damaged_bytes == 0
    assert emptied(again) == [record(1), record(3)]
    again.close()


def test_slot_belongs_to_one_process_and_is_inherited_when_that_is_dead(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from ingest.log.spool import *\n"
        f"own, left = open_slots(pathlib.Path({str(tmp_path)!r}),"
        "max_bytes=1 << 20, segment_max_bytes=999, fsync=True)\n"
        "own.append([Record(7, 1, b'from the dead')]); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        own, left = open_slots(tmp_path, max_bytes=1 << 20, segment_max_bytes=999, fsync=False)
        assert (own.empty, left) == (True, [])
        other.kill()
    own.close()
    busy = opened(tmp_path / "5")
    own, left = open_slots(tmp_path, max_bytes=1 << 20, segment_max_bytes=999, fsync=False)
    assert emptied(own) == [Record(7, 1, b"from the dead")]
    for slot in (own, *left, busy):
        slot.close()


def test_empty_slots_of_the_dead_are_removed(tmp_path: Path) -> None:
    for number in range(3):
        spool = opened(tmp_path / str(number))
        if number == 2:
            spool.append([record(1)])
        spool.close()
    own, left = open_slots(tmp_path, max_bytes=1 << 20, segment_max_bytes=999, fsync=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "2"]
    assert own.empty
    assert [emptied(slot) for slot in left] == [[record(1)]]
    left[0].remove()
    own.close()
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@given(st.lists(st.sampled_from(["append", "read", "release", "reopen"]), max_size=40))
def test_nothing_is_lost_or_reordered_whatever_happens_when(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = opened(folder, segment_max_bytes=60)
    written = released = reading = 0
    floor = 0
    for step in [*steps, "reopen"]:
        if step == "append":
            spool.append([record(written), record(written + 1)])
            written += 2
        elif step == "read":
            found = spool.read()
            assert found == [record(released + at) for at in range(len(found))]
            assert bool(found) == (released < written)
            reading = len(found)
        elif step == "release":
            spool.release()
            released += reading
            reading = 0
        else:
            spool.close()
            spool = opened(folder, segment_max_bytes=60)
            found = spool.read()
            # A segment is forgotten as a whole: what was released of its beginning may come again.
            again = found[0].member_hash if found else written
            assert floor <= again <= released
            floor = released = again
            reading = len(found)
    assert emptied(spool) == [record(number) for number in range(released, written)]
    spool.close()
