"""The format of a spool segment, and how to find records again after damaged bytes. Pure.

A segment begins with ``MAGIC``. Each record has a header of little-endian UInt32s: a mark, the length of its lines,
member hash, number of clicks, CRC-32 of the lines, and CRC-32 of the header so far. A length is trusted only if its
header's CRC is right; otherwise the scan continues at the next mark with a valid header and lines. The mark contains
a control character, which JSON escapes, so it never occurs within lines.

Segments of the previous version have neither magic nor marks: length, CRC of what follows it, member hash, clicks.
They are read but never written. After a damaged length, a record is tried at every brace.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAGIC: Final = b"FLspool2"
_MARK: Final = b"\xf1\xa7\x7c\x02"
_FIELDS: Final = struct.Struct("<4sIIII")
_CRC: Final = struct.Struct("<I")
_HEADER_BYTES: Final = _FIELDS.size + _CRC.size
_OLD_HEADER: Final = struct.Struct("<IIII")


class Record(NamedTuple):
    """One request's clicks: the hash that chooses their partition, their number, and their lines."""

    member_hash: int
    clicks: int
    lines: bytes

    def encode(self) -> bytes:
        """The record's bytes in a segment."""
        fields = _FIELDS.pack(_MARK, len(self.lines), self.member_hash, self.clicks, zlib.crc32(self.lines))
        return fields + _CRC.pack(zlib.crc32(fields)) + self.lines


class StoredRecord(NamedTuple):
    """A record and the index where it ends."""

    record: Record
    end: int

    def shifted(self, by: int) -> StoredRecord:
        """The same, with its end moved by ``by``."""
        return StoredRecord(self.record, self.end + by)


class Damage(NamedTuple):
    """Invalid bytes. ``torn``: they are no more than what a crash during a write leaves at the end."""

    start: int
    end: int
    torn: bool

    def shifted(self, by: int) -> Damage:
        """The same, moved by ``by``."""
        return Damage(self.start + by, self.end + by, self.torn)


def scan(data: bytes, *, old: bool) -> Iterator[StoredRecord | Damage]:
    """The records and damage in ``data``, in order; it may begin anywhere."""
    at = 0
    record_at = _old_record_at if old else _record_at
    next_at = _next_old if old else _next
    while at < len(data):
        found = record_at(data, at)
        if found is None:
            start, at = at, next_at(data, at + 1)
            yield Damage(start, at, torn=at == len(data) and _torn(data[start:], old=old))
        else:
            yield found
            at = found.end


def scan_segment(data: bytes) -> Iterator[StoredRecord | Damage]:
    """``scan`` for a whole segment, whose magic may be torn."""
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        yield from [Damage(0, len(data), torn=True)] if data else []
        return
    at = len(MAGIC) if data.startswith(MAGIC) else 0
    for found in scan(data[at:], old=is_old(data)):
        yield found.shifted(at)


def is_old(data: bytes) -> bool:
    """Whether a segment has the previous format; one with damaged magic does not count."""
    return not data.startswith(MAGIC[: len(data)]) and _next(data, 0) == len(data)


def _record_at(data: bytes, at: int) -> StoredRecord | None:
    length = _length_at(data, at)
    if length is None:
        return None
    _, _, member_hash, clicks, crc = _FIELDS.unpack_from(data, at)
    end = at + _HEADER_BYTES + length
    lines = data[at + _HEADER_BYTES : end]
    if end > len(data) or zlib.crc32(lines) != crc:
        return None
    return StoredRecord(Record(member_hash, clicks, lines), end)


def _length_at(data: bytes, at: int) -> int | None:
    """The length in the header at this index, if there is one with a valid CRC."""
    if not data.startswith(_MARK, at) or at + _HEADER_BYTES > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, at + _FIELDS.size)
    if zlib.crc32(data[at : at + _FIELDS.size]) != crc:
        return None
    length: int = _FIELDS.unpack_from(data, at)[1]
    return length


def sections(damaged: bytes) -> Iterator[tuple[int | None, bytes]]:
    """Damaged bytes, cut where headers are whole: the member hash of each header, and the bytes behind it."""
    member_hash, start, at = None, 0, damaged.find(_MARK)
    while at >= 0:
        if _length_at(damaged, at) is not None:
            yield member_hash, damaged[start:at]
            member_hash = _FIELDS.unpack_from(damaged, at)[2]
            start = at + _HEADER_BYTES
        at = damaged.find(_MARK, at + 1)
    yield member_hash, damaged[start:]


def _next(data: bytes, at: int) -> int:
    """Where the next valid record begins; the end of the data if there is none."""
    while (at := data.find(_MARK, at)) >= 0:
        if _record_at(data, at) is not None:
            return at
        at += 1
    return len(data)


def _torn(rest: bytes, *, old: bool) -> bool:
    """Whether this is only the beginning of a record, or the zeros that a file system leaves of one.

    In the old format an incomplete record looks like one with a damaged length, so it counts as damage.
    """
    if old or not rest.strip(b"\0"):
        return not rest.strip(b"\0")
    if len(rest) < _HEADER_BYTES:
        return rest.startswith(_MARK[: len(rest)])
    length = _length_at(rest, 0)
    return length is not None and length > len(rest) - _HEADER_BYTES and _MARK not in rest[1:]


def _old_record_at(data: bytes, at: int) -> StoredRecord | None:
    start = at + _OLD_HEADER.size
    if start > len(data):
        return None
    length, crc, member_hash, clicks = _OLD_HEADER.unpack_from(data, at)
    end = start + length
    if end > len(data) or zlib.crc32(data[at + 8 : end]) != crc:
        return None
    return StoredRecord(Record(member_hash, clicks, data[start:end]), end)


def _next_old(data: bytes, at: int) -> int:
    at += _OLD_HEADER.size
    while (at := data.find(b"{", at)) >= 0:
        start = at - _OLD_HEADER.size
        end = at + int.from_bytes(data[start : start + 4], "little")
        # Most braces are inside lines, where four letters read as a length of a gigabyte: rule those out without a CRC.
        if at < end <= len(data) and data[end - 1] == ord("}") and _old_record_at(data, start) is not None:
            return start
        at += 1
    return len(data)
