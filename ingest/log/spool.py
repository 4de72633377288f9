# All disk operations go through os, not Path, so that tests can inject errors there.
# ruff: noqa: PTH104, PTH106, PTH108, PTH116, PTH208
"""The spool: clicks on disk while the broker is unavailable, in append-only segments, read back in order.

A folder holds numbered *slots*, each owned by one process through a lock that dies with it. A slot holds numbered
segments; a segment holds records (spool_format.py).

1. ``append`` writes records and, if configured, waits for fsync. A crash before it returns leaves a torn record at
   the end of a segment, which is skipped at the next start; nothing in it was answered.
2. ``read`` returns the oldest records. After a crash they are read again.
3. ``release``, once the broker has them, forgets them and deletes fully released segments. After a crash before that,
   the segment is sent again, and the stream drops the repeats by their click ids.

When the disk fails: a failed write is rolled back, and the next goes to a new segment, since the state of a file
after a failed fsync is unknown. Invalid bytes are skipped; their segment is preserved as ``.damaged``, a hard link that
takes no space on a full disk. State in memory changes only after the disk has done its work.

This module blocks: call it from a thread, one call at a time. It knows no broker and no clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from ingest.log.disk import DAMAGED, close, fsync_folder, keep_as_damaged, make_folder, read_around, read_bytes
from ingest.log.spool_format import MAGIC, Damage, Record, is_old, scan, scan_segment

__all__ = ["Record", "Spool", "SpoolBroken", "SpoolFull", "open_slots", "slots_of"]

_SUFFIX: Final = ".segment"
READ_MAX_BYTES: Final = 4 * 1024 * 1024
#: After so many failed reads, read around the bad blocks: losing one record is better than losing all.
_READ_TRIES: Final = 3
_log = structlog.get_logger(__name__)


class SpoolFull(Exception):
    """Nothing can be appended: the size limit is reached, or the disk cannot be written."""


class SpoolBroken(RuntimeError):
    """The spool cannot be opened at all: an operator must check the disk."""


@dataclass
class _Segment:
    """One file: the bytes written, and how many of them are released."""

    path: Path
    written: int = 0
    clicks: int = 0
    released: int = 0
    old: bool = False
    #: Where runs of invalid bytes start.
    damage: set[int] = field(default_factory=set)
    #: Whether it must be preserved as ``.damaged``.
    damaged: bool = False
    retained: bool = False
    read_failures: int = 0


@dataclass
class _Reading:
    """The result of the last ``read``, until it is released."""

    segment: _Segment
    end: int
    clicks: int = 0
    records: list[Record] = field(default_factory=list)


class Spool:
    """One slot. Opening it takes its lock and checks every record.

    Raises ``BlockingIOError`` if another process has it, and ``OSError`` when the disk fails.
    """

    def __init__(self, folder: Path, *, max_bytes: int, segment_max_bytes: int, fsync: bool) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_max_bytes = segment_max_bytes
        self._fsync = fsync
        self._guard = threading.Lock()
        self._file: int | None = None
        self._writing: _Segment | None = None
        self._reading: _Reading | None = None
        self._undeleted: list[_Segment] = []
        #: All invalid bytes, including those torn by crashes.
        self.damaged_bytes = 0
        #: Segments that are preserved as ``.damaged``.
        self.damaged_segments = 0
        make_folder(folder, fsync=fsync)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            names = os.listdir(folder)
            self._segments = [self._opened(folder / name) for name in sorted(names) if name.endswith(_SUFFIX)]
        except OSError:
            close(self._lock)
            raise
        # Damaged ones count too, or a new segment could take the name of a preserved one.
        self._number = max((int(stem) for name in names if (stem := name.partition(".")[0]).isdigit()), default=0)
        self._drop_released()

    @property
    def waiting_bytes(self) -> int:
        """Bytes not yet released."""
        return sum(segment.written - segment.released for segment in self._segments)

    @property
    def waiting_clicks(self) -> int:
        """Clicks not yet released."""
        return sum(segment.clicks for segment in self._segments)

    @property
    def unread_bytes(self) -> int:
        """Bytes that ``read`` has not returned yet."""
        reading = self._reading
        return self.waiting_bytes - (reading.end - reading.segment.released if reading else 0)

    @property
    def empty(self) -> bool:
        """Whether everything is released."""
        return not self._segments

    def append(self, records: Sequence[Record]) -> None:
        """Append all records or none. Raises ``SpoolFull``."""
        data = b"".join([record.encode() for record in records])
        with self._guard:
            if self.waiting_bytes + len(data) > self._max_bytes:
                raise SpoolFull(f"{self._folder} holds {self.waiting_bytes} bytes; the limit is {self._max_bytes}")
            try:
                segment, file = self._segment_to_write()
                data = data if segment.written else MAGIC + data
                self._write(segment, file, data)
            except OSError as error:
                raise SpoolFull(f"{self._folder} cannot be written: {error.strerror}") from error
            if not segment.written:
                self._segments.append(segment)
            segment.written += len(data)
            segment.clicks += sum(record.clicks for record in records)

    def read(self) -> list[Record]:
        """The oldest records, a few MB of them; the same ones until they are released.

        Empty if there are none, or if a segment holds nothing but damage: call ``release`` then, too. Raises
        ``OSError`` for the first failed reads, then reads around the bad blocks.
        """
        with self._guard:
            if self._reading is None and self._segments:
                self._reading = self._read(self._segments[0])
            return self._reading.records if self._reading else []

    def release(self) -> None:
        """Forget what ``read`` returned: the broker has it."""
        with self._guard:
            if self._reading is not None:
                self._reading.segment.released = self._reading.end
                self._reading.segment.clicks -= self._reading.clicks
                self._reading = None
                self._drop_released()

    def close(self) -> None:
        """Close the files and release the lock. The contents stay."""
        with self._guard:
            self._close_file()
            close(self._lock)

    def remove(self) -> None:
        """Close, and delete the slot if it is empty: for slots that dead processes left behind."""
        empty = self.empty
        self.close()
        if empty:
            with contextlib.suppress(OSError):
                os.unlink(self._folder / "lock")
                os.rmdir(self._folder)

    def _segment_to_write(self) -> tuple[_Segment, int]:
        if self._file is not None and self._writing is not None and self._writing.written < self._segment_max_bytes:
            return self._writing, self._file
        self._close_file()
        # Advance even if the following fails: the name may be taken.
        self._number += 1
        path = self._folder / f"{self._number:016d}{_SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if self._fsync:
                fsync_folder(self._folder)
        except OSError:
            close(file)
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        self._file, self._writing = file, _Segment(path)
        return self._writing, file

    def _write(self, segment: _Segment, file: int, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            if self._fsync:
                os.fdatasync(file)
        except OSError:
            self._close_file()
            # If this fails too, the bytes left at the end are a torn record, or one that will be sent twice.
            with contextlib.suppress(OSError):
                if segment.written:
                    os.truncate(segment.path, segment.written)
                else:
                    os.unlink(segment.path)
            raise

    def _close_file(self) -> None:
        file, self._file, self._writing = self._file, None, None
        if file is not None:
            close(file)

    def _read(self, segment: _Segment) -> _Reading:
        """Read up to ``READ_MAX_BYTES``; more only if they do not hold one complete record."""
        window = READ_MAX_BYTES
        while True:
            left = segment.written - segment.released
            data = self._bytes_of(segment, segment.released, min(left, window))
            reading = self._parsed(segment, data, whole=window >= left)
            if reading.end > segment.released:
                return reading
            window *= 2

    def _parsed(self, segment: _Segment, data: bytes, *, whole: bool) -> _Reading:
        """The records in these bytes; unless they are the ``whole`` rest, a torn one at the end is left for later."""
        at = len(MAGIC) if segment.released == 0 and data.startswith(MAGIC) else 0
        reading = _Reading(segment, segment.released + at if whole else segment.released)
        for found in scan(data[at:], old=segment.old):
            if isinstance(found, Damage):
                if found.end == len(data) - at and not whole:
                    return reading
                self._note_damage(segment, found.shifted(segment.released + at))
            else:
                reading.records.append(found.record)
                reading.clicks += found.record.clicks
            reading.end = segment.released + at + found.end
        return reading

    def _bytes_of(self, segment: _Segment, start: int, length: int) -> bytes:
        try:
            data = read_bytes(segment.path, start, length)
        except OSError:
            segment.read_failures += 1
            if segment.read_failures < _READ_TRIES:
                raise
            return read_around(segment.path, start, length)
        # If the file was truncated meanwhile, padding makes it damage instead of an endless retry.
        return data.ljust(length, b"\0")

    def _note_damage(self, segment: _Segment, damage: Damage) -> None:
        if damage.start in segment.damage:
            return
        segment.damage.add(damage.start)
        self.damaged_bytes += damage.end - damage.start
        if damage.torn:
            _log.warning(
                "a crash left an incomplete record in the spool; it was never acknowledged, so nothing is lost",
                path=str(segment.path), offset=damage.start, bytes=damage.end - damage.start,
            )  # fmt: skip
            return
        self._keep(segment)
        _log.error(
            "a spool segment is damaged: its intact records are sent and the file is preserved; "
            "check the disk, then see docs/runbooks.md#spooldamaged",
            kept_as=str(segment.path.with_suffix(DAMAGED)),
            offset=damage.start, bytes=damage.end - damage.start,
        )  # fmt: skip

    def _keep(self, segment: _Segment) -> None:
        """Hard-link a damaged segment to its second name; if that fails, it is renamed later instead of deleted."""
        if not segment.damaged:
            segment.damaged = True
            self.damaged_segments += 1
        if not segment.retained:
            with contextlib.suppress(OSError):
                keep_as_damaged(segment.path)
                segment.retained = True

    def _drop_released(self) -> None:
        while self._segments and self._segments[0].released >= self._segments[0].written:
            segment = self._segments.pop(0)
            if segment is self._writing:
                self._close_file()
            self._undeleted.append(segment)
        self._undeleted = [segment for segment in self._undeleted if not self._deleted(segment)]

    def _deleted(self, segment: _Segment) -> bool:
        try:
            if segment.damaged and not segment.retained:
                os.rename(segment.path, segment.path.with_suffix(DAMAGED))
            else:
                os.unlink(segment.path)
        except FileNotFoundError:
            return True
        except OSError as error:
            _log.warning(
                "cannot delete a spool segment that was sent; if it stays, it is sent again at the next start",
                path=str(segment.path), reason=error.strerror,
            )  # fmt: skip
            return False
        return True

    def _opened(self, path: Path) -> _Segment:
        """Open and check a segment that an earlier process left."""
        length = os.stat(path).st_size
        try:
            data = read_bytes(path, 0, length)
        except OSError:
            data = read_around(path, 0, length)
        segment = _Segment(path, written=len(data), old=is_old(data))
        for found in scan_segment(data):
            if isinstance(found, Damage):
                self._note_damage(segment, found)
                if found.torn:
                    segment.written = found.start
            else:
                segment.clicks += found.record.clicks
        if not segment.clicks and not segment.damaged:
            segment.written = 0
        return segment


def open_slots(folder: Path, *, max_bytes: int, segment_max_bytes: int, fsync: bool) -> tuple[Spool, list[Spool]]:
    """A slot for this process, and the slots with clicks that dead processes left behind.

    A slot that cannot be opened is skipped and left for a later start. Raises ``SpoolBroken`` when none can be created.
    """

    def opened(slot: Path) -> Spool | None:
        try:
            return Spool(slot, max_bytes=max_bytes, segment_max_bytes=segment_max_bytes, fsync=fsync)
        except BlockingIOError:
            return None

    free: list[Spool] = []
    numbers = slots_of(folder, fsync=fsync)
    for number in numbers:
        try:
            slot = opened(folder / str(number))
        except OSError as error:
            _log.error(
                "cannot open a slot of the spool: its clicks stay there until a later start can open it",
                slot=number, reason=error.strerror,
            )  # fmt: skip
        else:
            free += [slot] if slot is not None else []
    number = max(numbers, default=-1) + 1
    while not free:
        try:
            slot = opened(folder / str(number))
        except OSError as error:
            raise SpoolBroken(f"cannot create a slot in the spool {folder}: {error.strerror}") from error
        free += [slot] if slot is not None else []
        number += 1
    mine, *abandoned = free
    for spool in abandoned:
        if spool.empty:
            spool.remove()
    return mine, [spool for spool in abandoned if not spool.empty]


def slots_of(folder: Path, *, fsync: bool) -> list[int]:
    """The numbers of a spool's slots, sorted; creates the folder if need be. Raises ``SpoolBroken``."""
    try:
        make_folder(folder, fsync=fsync)
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except OSError as error:
        raise SpoolBroken(f"cannot open the spool {folder}: {error.strerror}") from error
