"""The spool on a bad disk: errors at every call, flipped bits, bytes that are gone. What was answered comes back."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingest.log.disk
import ingest.log.spool
from ingest.contract.rejection import Reason
from ingest.log.lane import Placed, RequestClicks
from ingest.log.spool import Record, Spool, SpoolBroken, SpoolFull, open_slots
from ingest.log.spool_format import MAGIC
from ingest.log.spooler import Spooler, blocks_of
from ingest.metrics import Metrics
from ingest.settings import IngestSettings


class Disk:
    """``os``, of which the call number ``fails_at`` fails, or all from there on; or it writes half and then fails."""

    def __init__(self, fails_at: int, code: int, *, for_good: bool = False, only: str = "") -> None:
        self.calls: list[str] = []
        self._fails_at = fails_at
        self._code = code
        self._for_good = for_good
        self._only = only

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if not callable(real) or name in {"fspath", "PathLike"}:
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            if self._only and name != self._only:
                return real(*arguments, **named)
            number = len(self.calls)
            self.calls.append(name)
            if number == self._fails_at or (self._for_good and number > self._fails_at):
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                if name == "close":
                    real(*arguments)
                raise OSError(self._code, os.strerror(self._code))
            return real(*arguments, **named)

        return call


def put(patched: pytest.MonkeyPatch, disk: Any) -> None:
    """Let this answer for the disk."""
    for module in (ingest.log.spool, ingest.log.disk):
        patched.setattr(module, "os", disk)


def record(number: int) -> Record:
    return Record(number, 1, b'{"click":%d,"text":"%s"}' % (number, b"x" * (number * 7 % 40)))


def opened(folder: Path, *, fsync: bool = True) -> Spool:
    return Spool(folder, max_bytes=1 << 20, segment_max_bytes=200, fsync=fsync)


def emptied(spool: Spool) -> list[Record]:
    """All that is in it, in a number of steps that is no spin."""
    found: list[Record] = []
    for _ in range(1000):
        if spool.empty:
            return found
        found += spool.read()
        spool.release()
    raise AssertionError("the spool is never empty")


class Process:
    """An ingest and its broker: what was answered 202, and what arrived."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answered: list[Record] = []
        self.arrived: list[Record] = []
        self.spool: Spool | None = None
        self.slots = 0
        self._number = 0

    def start(self) -> None:
        self.stop()
        try:
            self.spool, left = open_slots(self.folder, max_bytes=1 << 20, segment_max_bytes=200, fsync=True)
        except SpoolBroken:
            return
        self.slots = max(self.slots, 1 + len(left))
        for slot in left:
            self.arrived += emptied(slot)
            slot.remove()

    def stop(self) -> None:
        if self.spool is not None:
            self.spool.close()
            self.spool = None

    def append(self) -> None:
        records = [record(self._number), record(self._number + 1)]
        self._number += 2
        if self.spool is None:
            return
        try:
            self.spool.append(records)
        except SpoolFull:
            return
        self.answered += records

    def send(self) -> None:
        if self.spool is None:
            return
        try:
            found = self.spool.read()
        except OSError:
            return
        self.arrived += found
        self.spool.release()

    def run(self, steps: str) -> None:
        for step in steps:
            {"S": self.start, "a": self.append, "s": self.send, "x": self.stop}[step]()


def first_arrivals(arrived: list[Record], answered: list[Record]) -> list[Record]:
    wanted = set(answered)
    return [one for one in dict.fromkeys(arrived) if one in wanted]


@pytest.mark.parametrize(
    ("code", "until"), [(errno.ENOSPC, "once"), (errno.EIO, "once"), (errno.EROFS, "for good")], ids=str
)
def test_an_error_of_the_disk_at_any_call_loses_and_reorders_nothing_that_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, until: str
) -> None:
    steps = "SaaasaaxSsaaxSsa"
    fails_at, seen = 0, set()
    while True:
        process = Process(tmp_path / str(fails_at) / "a" / "spool")
        disk = Disk(fails_at, code, for_good=until == "for good")
        with monkeypatch.context() as patched:
            put(patched, disk)
            process.run(steps)
        if fails_at >= len(disk.calls):
            break
        seen.add(disk.calls[fails_at])
        process.run("Saa")
        assert process.spool is not None
        process.arrived += emptied(process.spool)
        process.stop()
        arrived = first_arrivals(process.arrived, process.answered)
        # A slot that could not be opened waits for a later start: between slots there is no order.
        assert (arrived if process.slots == 1 else sorted(arrived)) == process.answered, disk.calls[: fails_at + 1]
        fails_at += 1
    assert seen >= {"open", "write", "fdatasync", "fsync", "mkdir", "listdir", "pread", "stat", "unlink", "close"}
    assert fails_at > 50


@pytest.mark.parametrize("call", ["write", "fdatasync", "truncate", "fsync"])
def test_an_append_that_fails_midway_leaves_nothing_in_front_of_later_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool = opened(tmp_path)
    spool.append([record(1)])
    with monkeypatch.context() as patched:
        put(patched, Disk(0, errno.ENOSPC, only="write" if call == "truncate" else call))
        if call == "fsync":
            spool.append([record(9)] * 5)
        with pytest.raises(SpoolFull):
            spool.append([record(2)])
    spool.append([record(3)])
    spool.close()
    again = opened(tmp_path)
    assert (emptied(again)[-1], again.damaged_bytes) == (record(3), 0)
    again.close()


def test_a_read_that_fails_raises_and_then_goes_around_what_the_disk_does_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 30, segment_max_bytes=1 << 20, fsync=False)
    records = [Record(number, 1, b"x" * 1500) for number in range(20)]
    spool.append(records)

    class BadBlock(Disk):
        """The second block of every file cannot be read."""

        def __getattr__(self, name: str) -> Any:
            real = getattr(os, name)
            if name != "pread":
                return real

            def pread(file: int, length: int, start: int) -> bytes:
                if start < 8192 and start + length > 4096:
                    raise OSError(errno.EIO, "bad block")
                return bytes(real(file, length, start))

            return pread

    put(monkeypatch, BadBlock(0, errno.EIO))
    for _ in range(2):
        with pytest.raises(OSError, match="bad block"):
            spool.read()
    found = emptied(spool)
    assert found == [*records[:2], *records[6:]] or found == [*records[:2], *records[5:]]
    assert spool.damaged_segments == 1
    (retained,) = tmp_path.glob("*.damaged")
    assert all(one.lines in retained.read_bytes() for one in records)
    spool.close()


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bits flipped, bytes taken out, bytes put in, the end cut off; never nothing."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["flip", "take", "put", "cut"]))
        if kind == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "take":
            del changed[at : at + draw(st.integers(1, 60))]
        elif kind == "put":
            changed[at:at] = draw(st.binary(min_size=1, max_size=60))
        else:
            del changed[at:]
    return bytes(changed)


def copies(changed: bytes, intact: list[Record]) -> list[list[bytes]]:
    """What may be kept: damage before a record must be. Behind the last one it may look like a write cut off."""
    at, seamless = len(MAGIC), changed.startswith(MAGIC)
    for one in intact:
        seamless = seamless and changed.startswith(one.encode(), at)
        at = changed.find(one.encode()) + len(one.encode())
    if intact and not seamless:
        return [[changed]]
    return [[]] if intact and at == len(changed) else [[], [changed]]


@given(st.data())
def test_every_undamaged_record_is_sent_and_the_damaged_bytes_are_kept(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, max_bytes=1 << 20, segment_max_bytes=1 << 20, fsync=False)
    records = [record(number) for number in range(data.draw(st.integers(1, 12)))]
    spool.append(records)
    spool.close()
    (segment,) = folder.glob("*.segment")
    changed = data.draw(damaged(segment.read_bytes()))
    segment.write_bytes(changed)
    again = Spool(folder, max_bytes=1 << 20, segment_max_bytes=1 << 20, fsync=False)
    intact = [one for one in records if one.encode() in changed]
    assert emptied(again) == intact
    again.close()
    retained = [path.read_bytes() for path in folder.glob("*.damaged")]
    assert retained in copies(changed, intact)
    assert again.damaged_segments == len(retained)


def old_record(one: Record) -> bytes:
    """As the version before wrote it."""
    rest = struct.pack("<II", one.member_hash, one.clicks) + one.lines
    return struct.pack("<II", len(one.lines), zlib.crc32(rest)) + rest


def old_segment(folder: Path, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "0000000000000007.segment").write_bytes(data)


@pytest.mark.parametrize("torn_bytes", [0, 1, 15, 20])
def test_segments_of_the_version_before_are_sent(tmp_path: Path, torn_bytes: int) -> None:
    records = [record(number) for number in range(5)]
    old_segment(tmp_path, b"".join(map(old_record, records)) + old_record(record(9))[:torn_bytes])
    spool = opened(tmp_path)
    spool.append([record(5)])
    assert emptied(spool) == [*records, record(5)]
    # Whether a crash tore it or its length is damaged, nobody can tell: it is kept.
    assert (spool.damaged_bytes, spool.damaged_segments) == (torn_bytes, bool(torn_bytes))
    spool.close()


@pytest.mark.parametrize("bit", range(24 * 8))
def test_a_flipped_bit_in_a_segment_of_the_version_before_costs_one_record(tmp_path: Path, bit: int) -> None:
    records = [record(number) for number in range(4)]
    data = bytearray(b"".join(map(old_record, records)))
    data[len(old_record(records[0])) + bit // 8] ^= 1 << bit % 8
    old_segment(tmp_path, bytes(data))
    spool = opened(tmp_path, fsync=False)
    assert emptied(spool) == [records[0], *records[2:]]
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged")] == [bytes(data)]
    spool.close()


def test_a_damaged_segment_is_kept_though_a_copy_of_its_name_is_there(tmp_path: Path) -> None:
    (tmp_path / "0000000000000007.damaged").write_bytes(b"of the version before")
    old_segment(tmp_path, b"rubbish" * 9)
    spool = opened(tmp_path)
    assert emptied(spool) == []
    spool.append([record(1)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0000000000000007.1.damaged", "0000000000000007.damaged", "0000000000000008.segment", "lock",
    ]  # fmt: skip
    spool.close()


def test_folder_and_its_parents_are_on_the_disk_before_anything_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()

    class Watched(Disk):
        def fsync(self, file: int) -> None:
            synced.add(str(Path(f"/proc/self/fd/{file}").readlink()))
            os.fsync(file)

    put(monkeypatch, Watched(-1, 0))
    spool, _ = open_slots(tmp_path / "a" / "b", max_bytes=1 << 20, segment_max_bytes=200, fsync=True)
    assert synced >= {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")}
    spool.append([record(1)])
    assert str(tmp_path / "a/b/0") in synced
    spool.close()


def test_spool_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolBroken, match=r"cannot open the spool .*file.*: "):
        open_slots(tmp_path / "file" / "spool", max_bytes=1, segment_max_bytes=1, fsync=True)


async def through_a_keeper(
    folder: Path, records: list[Record], broken: Callable[[], None], mended: Callable[[], None]
) -> tuple[list[Record], list[Placed | Reason]]:
    """Put records while the disk is broken, then others; what was sent, and the answers."""
    settings = IngestSettings.model_validate({"spool": folder, "token_keys": folder / "none"})
    spooler = Spooler(settings, Metrics(), interrupted=lambda: None, cleared=lambda: None)
    arrived: list[Record] = []
    answers: list[Placed | Reason] = []

    async def send(some: list[Record]) -> None:
        arrived.extend(some)

    connected = asyncio.Event()
    jobs = [asyncio.create_task(spooler.write()), asyncio.create_task(spooler.replay(send, connected))]
    for number, one in enumerate(records):
        (broken if number == 0 else mended)()
        spooler.put(RequestClicks(one.member_hash, one.lines, one.clicks, 0, answers.append))
        await spooler.idle.wait()
    connected.set()
    async with asyncio.timeout(20):
        await spooler.clear.wait()
    assert not any(job.done() for job in jobs)
    for job in jobs:
        job.cancel()
    spooler.close()
    return arrived, answers


@pytest.mark.parametrize("call", ["open", "fsync", "write", "fdatasync"])
async def test_keeper_goes_on_after_the_disk_failed_and_does_not_spin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    arrived, answers = await through_a_keeper(
        tmp_path / "spool",
        [record(1), record(2)],
        lambda: put(monkeypatch, Disk(0, errno.EIO, for_good=True, only=call)),
        lambda: put(monkeypatch, os),
    )
    assert answers == [Reason.QUEUE_FULL, Placed(None, None, None)]
    assert arrived == [record(2)]


def seconds_of(count: int) -> float:
    records = [Record(0, 1, b"x" * 150)] * count
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        blocks_of(records, 4)
        best = min(best, time.process_time() - started)
    return best


def test_records_become_blocks_in_time_that_grows_as_they_do() -> None:
    assert seconds_of(40_000) < 8 * max(seconds_of(10_000), 1e-4)
