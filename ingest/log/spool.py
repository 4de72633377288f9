# All that is asked of the disk goes through os, not through Path: there the tests answer with errors.
# ruff: noqa: PTH104, PTH106, PTH108, PTH116, PTH208
"""The spool: clicks on disk while the broker is away, in append-only segments, read back in order.

A folder holds numbered *slots*; each belongs to one process, by a lock that dies with it. A slot holds numbered
segments; a segment holds records (spool_format.py).

1. ``append`` writes records and, as set, waits for the disk. A crash before its end: torn bytes at a segment's
   end, skipped at the next start. Nothing in them was answered.
2. ``read`` returns the oldest records. A crash after it: they are read again.
3. The broker has them; ``release`` forgets them, and deletes a segment once all of it is released. A crash
   before that: the segment goes to the broker again, and the stream drops the repeats by their click ids.

What a disk does: a write that fails is taken back, and the next goes to a new segment, for nobody knows what is left
of the old one after a failed fsync. Bytes that are no record are skipped; the segment they are in stays beside the
others as ``.damaged``, a second name for the same file, which takes no room on a full disk. Every state is changed
after the disk has done its part.

This module blocks: it is called from a thread, one call at a time. It knows no broker and no clock. All that it asks
of the disk goes through ``os``.
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
#: A read that fails so often is done around the bad blocks of the disk: better a record less than all of them.
_READ_TRIES: Final = 3
_log = structlog.get_logger(__name__)


class SpoolFull(Exception):
    """Nothing can be taken: the cap is reached, or the disk does not write."""


class SpoolBroken(RuntimeError):
    """The spool cannot be opened at all: somebody has to look at the disk."""


@dataclass
class _Segment:
    """One file: how much of it is written, and how much of that the broker has."""

    path: Path
    written: int = 0
    clicks: int = 0
    released: int = 0
    old: bool = False
    #: starts of bytes that are no record
    damage: set[int] = field(default_factory=set)
    #: it has, or had better get, its second name
    damaged: bool = False
    retained: bool = False
    read_failures: int = 0


@dataclass
class _Reading:
    """What the last ``read`` returned, until it is released."""

    segment: _Segment
    end: int
    clicks: int = 0
    records: list[Record] = field(default_factory=list)


class Spool:
    """One slot. Opening it takes its lock and checks every record; raises ``BlockingIOError`` if another has it.

    Raises ``OSError`` when the disk does not let it.
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
        #: All bytes that were no record, those of crashes too.
        self.damaged_bytes = 0
        #: Segments that are kept as ``.damaged``.
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
        # The damaged ones count, lest a new segment take the name of one that is kept.
        self._number = max((int(stem) for name in names if (stem := name.partition(".")[0]).isdigit()), default=0)
        self._drop_released()

    @property
    def waiting_bytes(self) -> int:
        """What the broker has yet to get."""
        return sum(segment.written - segment.released for segment in self._segments)

    @property
    def waiting_clicks(self) -> int:
        """How many clicks that is."""
        return sum(segment.clicks for segment in self._segments)

    @property
    def unread_bytes(self) -> int:
        """What ``read`` has yet to return, after what it returned last."""
        reading = self._reading
        return self.waiting_bytes - (reading.end - reading.segment.released if reading else 0)

    @property
    def empty(self) -> bool:
        """Whether the broker has everything."""
        return not self._segments

    def append(self, records: Sequence[Record]) -> None:
        """Write them all, or none. Raises ``SpoolFull``."""
        data = b"".join([record.encode() for record in records])
        with self._guard:
            if self.waiting_bytes + len(data) > self._max_bytes:
                raise SpoolFull(
                    f"{self._folder} holds {self.waiting_bytes} bytes; at most {self._max_bytes} are allowed"
                )
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
        """The oldest records, a few MB of them; the same again until they are released. Empty if there are none.

        Empty too where nothing but damage is left of a segment: release it. Raises ``OSError`` a few times before it
        reads around what the disk does not give.
        """
        with self._guard:
            if self._reading is None and self._segments:
                self._reading = self._read(self._segments[0])
            return self._reading.records if self._reading else []

    def release(self) -> None:
        """The broker has what ``read`` returned."""
        with self._guard:
            if self._reading is not None:
                self._reading.segment.released = self._reading.end
                self._reading.segment.clicks -= self._reading.clicks
                self._reading = None
                self._drop_released()

    def close(self) -> None:
        """Let go of the files and the lock. What is in the spool stays there."""
        with self._guard:
            self._close_file()
            close(self._lock)

    def remove(self) -> None:
        """Close, and delete the slot if it is empty: it was another process's, and is read to its end."""
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
        # Also when what follows fails: the name may be taken.
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
            # If this fails too, they stand at the end and are no whole record, or one that comes a second time.
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
        """Up to ``READ_MAX_BYTES``, and more only when there is not one whole record in them."""
        window = READ_MAX_BYTES
        while True:
            left = segment.written - segment.released
            data = self._bytes_of(segment, segment.released, min(left, window))
            reading = self._parsed(segment, data, whole=window >= left)
            if reading.end > segment.released:
                return reading
            window *= 2

    def _parsed(self, segment: _Segment, data: bytes, *, whole: bool) -> _Reading:
        """What stands in these bytes; when they are not all, up to the first at their end that may be cut off."""
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
        # A file that was cut short meanwhile ends in damage, not in a read that never gets on.
        return data.ljust(length, b"\0")

    def _note_damage(self, segment: _Segment, damage: Damage) -> None:
        if damage.start in segment.damage:
            return
        segment.damage.add(damage.start)
        self.damaged_bytes += damage.end - damage.start
        if damage.torn:
            _log.warning(
                "a crash left the beginning of a record in the spool; it was never answered",
                path=str(segment.path), offset=damage.start, bytes=damage.end - damage.start,
            )  # fmt: skip
            return
        self._keep(segment)
        _log.error(
            "a spool segment is damaged: its whole records are sent, and the file is kept; "
            "look at the disk, then see docs/runbooks.md#spooldamaged",
            kept_as=str(segment.path.with_suffix(DAMAGED)),
            offset=damage.start, bytes=damage.end - damage.start,
        )  # fmt: skip

    def _keep(self, segment: _Segment) -> None:
        """Give a damaged segment its second name; if the disk does not let us, it gets it instead of being deleted."""
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
                "a spool segment that is sent cannot be deleted; if it stays, it is sent again at the next start",
                path=str(segment.path), reason=error.strerror,
            )  # fmt: skip
            return False
        return True

    def _opened(self, path: Path) -> _Segment:
        """Check a segment that an earlier process left."""
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
    """A slot of this process's own, and those that dead processes left behind with clicks in them.

    A slot that cannot be opened is left for a later start. Raises ``SpoolBroken`` when none can be had.
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
                "a slot of the spool cannot be opened: its clicks stay there until a start that can",
                slot=number, reason=error.strerror,
            )  # fmt: skip
        else:
            free += [slot] if slot is not None else []
    number = max(numbers, default=-1) + 1
    while not free:
        try:
            slot = opened(folder / str(number))
        except OSError as error:
            raise SpoolBroken(f"no slot can be made in the spool {folder}: {error.strerror}") from error
        free += [slot] if slot is not None else []
        number += 1
    own, *others = free
    for other in [one for one in others if one.empty]:
        other.remove()
    return own, [one for one in others if not one.empty]


def slots_of(folder: Path, *, fsync: bool) -> list[int]:
    """The numbers of a spool's slots; the folder is made where there is none. Raises ``SpoolBroken``."""
    try:
        make_folder(folder, fsync=fsync)
        return sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except OSError as error:
        raise SpoolBroken(f"the spool {folder} cannot be opened: {error.strerror}") from error
