"""The spool: clicks on disk while the broker is away, in append-only segments, read back in order.

A folder holds numbered *slots*; each belongs to one process, by a lock that dies with it. A slot holds numbered
segments; a segment holds records: a header (length, CRC, member hash, clicks) and the clicks' lines.

1. ``append`` writes records and, as set, waits for the disk. A crash before its end: torn bytes at a segment's
   end, cut off at the next start. Nothing in them was answered.
2. ``read`` returns the oldest records. A crash after it: they are read again.
3. The broker has them; ``release`` forgets them, and deletes a segment once all of it is released. A crash
   before that: the segment goes to the broker again, and the stream drops the repeats by their click ids.

This module blocks: it is called from a thread, one call at a time. It knows no broker and no clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, NamedTuple

import structlog

_HEADER: Final = struct.Struct("<IIII")
_SUFFIX: Final = ".segment"
READ_MAX_BYTES: Final = 4 * 1024 * 1024
_log = structlog.get_logger(__name__)


class SpoolFull(Exception):
    """No room left: the cap is reached, or the disk is full."""


class Record(NamedTuple):
    """One request's clicks: the hash that chooses their partition, how many, and their lines."""

    member_hash: int
    clicks: int
    lines: bytes

    def encode(self) -> bytes:
        """As it stands in a segment. The CRC covers all but the length, which it proves by where it looks."""
        rest = struct.pack("<II", self.member_hash, self.clicks) + self.lines
        return struct.pack("<II", len(self.lines), zlib.crc32(rest)) + rest


@dataclass
class _Segment:
    """One file: how much of it is written, and how much of that the broker has."""

    path: Path
    written: int = 0
    clicks: int = 0
    released: int = 0


@dataclass
class _Reading:
    """What the last ``read`` returned, until it is released."""

    segment: _Segment
    end: int
    clicks: int = 0
    records: list[Record] = field(default_factory=list)


class Spool:
    """One slot. Opening it takes its lock and checks every record; raises ``BlockingIOError`` if another has it."""

    def __init__(self, folder: Path, *, max_bytes: int, segment_max_bytes: int, fsync: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_max_bytes = segment_max_bytes
        self._fsync = fsync
        self._guard = threading.Lock()
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise
        self.damaged_bytes = 0
        self._segments = [self._opened(path) for path in sorted(folder.glob(f"*{_SUFFIX}"))]
        self._number = int(self._segments[-1].path.stem) if self._segments else 0
        self._file: IO[bytes] | None = None
        self._reading: _Reading | None = None
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
                self._write(segment, file, data)
            except OSError as error:
                raise SpoolFull(f"{self._folder} cannot be written: {error.strerror}") from error
            segment.written += len(data)
            segment.clicks += sum(record.clicks for record in records)

    def read(self) -> list[Record]:
        """The oldest records, a few MB of them; the same again until they are released. Empty if there are none."""
        with self._guard:
            if self._reading is None and self._segments:
                segment = self._segments[0]
                reading = _Reading(segment, segment.released)
                with segment.path.open("rb") as file:
                    file.seek(segment.released)
                    data = file.read(min(segment.written - segment.released, READ_MAX_BYTES))
                for record in _records(data):
                    reading.records.append(record)
                    reading.clicks += record.clicks
                    reading.end += _HEADER.size + len(record.lines)
                self._reading = reading
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
            self._lock.close()

    def remove(self) -> None:
        """Close, and delete the slot if it is empty: it was another process's, and is read to its end."""
        empty = self.empty
        self.close()
        if empty:
            with contextlib.suppress(OSError):
                (self._folder / "lock").unlink()
                self._folder.rmdir()

    def _segment_to_write(self) -> tuple[_Segment, IO[bytes]]:
        if self._file is not None and self._segments and self._segments[-1].written < self._segment_max_bytes:
            return self._segments[-1], self._file
        self._close_file()
        self._number += 1
        path = self._folder / f"{self._number:016d}{_SUFFIX}"
        self._file = path.open("xb", buffering=0)
        if self._fsync:
            _fsync_folder(self._folder)
        self._segments.append(_Segment(path))
        return self._segments[-1], self._file

    def _write(self, segment: _Segment, file: IO[bytes], data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if self._fsync:
                os.fdatasync(file.fileno())
        except OSError:
            # Half a record must not stand before the next one.
            file.truncate(segment.written)
            file.seek(segment.written)
            raise

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _drop_released(self) -> None:
        while self._segments and self._segments[0].released >= self._segments[0].written:
            segment = self._segments.pop(0)
            if not self._segments:
                self._close_file()
            segment.path.unlink(missing_ok=True)

    def _opened(self, path: Path) -> _Segment:
        """Check a segment that an earlier process left, and cut off what it did not finish."""
        data = path.read_bytes()
        segment = _Segment(path)
        for record in _records(data):
            segment.written += _HEADER.size + len(record.lines)
            segment.clicks += record.clicks
        torn = len(data) - segment.written
        if torn:
            self.damaged_bytes += torn
            if torn >= _HEADER.size and _HEADER.unpack_from(data, segment.written)[0] <= torn - _HEADER.size:
                # Whole, and its CRC is wrong: no crash does that. Somebody will want to look at it.
                shutil.copy(path, path.with_suffix(".damaged"))
                _log.error("a spool segment is damaged; a copy is kept", path=str(path), bytes=torn)
            os.truncate(path, segment.written)
        return segment


def open_slots(folder: Path, *, max_bytes: int, segment_max_bytes: int, fsync: bool) -> tuple[Spool, list[Spool]]:
    """A slot of this process's own, and those that dead processes left behind with clicks in them."""

    def opened(slot: Path) -> Spool | None:
        try:
            return Spool(slot, max_bytes=max_bytes, segment_max_bytes=segment_max_bytes, fsync=fsync)
        except BlockingIOError:
            return None

    folder.mkdir(parents=True, exist_ok=True)
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    free = [spool for number in numbers if (spool := opened(folder / str(number))) is not None]
    number = 0
    while not free:
        if (spool := opened(folder / str(number))) is not None:
            free.append(spool)
        number += 1
    own, *others = free
    for other in [one for one in others if one.empty]:
        other.remove()
    return own, [one for one in others if not one.empty]


def _records(data: bytes) -> Iterator[Record]:
    """The records from the start of ``data``, up to the first that is torn or damaged."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, crc, member_hash, clicks = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        if end > len(data) or zlib.crc32(data[at + 8 : end]) != crc:
            return
        yield Record(member_hash, clicks, data[at + _HEADER.size : end])
        at = end


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
