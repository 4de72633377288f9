"""How records stand in a segment of the spool, and how they are found when bytes between them are damaged. Pure.

A segment begins with ``MAGIC``. Each record has a header: a mark, the length of its lines, member hash, clicks, the
CRC of the lines, and a CRC of all these. So the length is believed only when its own header is right; else the next
mark with a right header and right lines is looked for. The mark has a control character, which JSON escapes: it
never stands within lines.

Segments of the version before have neither magic nor marks: length, CRC of what follows it, member hash, clicks. They
are read and never written. Behind a damaged length the next record is looked for at every brace.
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
    """One request's clicks: the hash that chooses their partition, how many, and their lines."""

    member_hash: int
    clicks: int
    lines: bytes

    def encode(self) -> bytes:
        """As it stands in a segment."""
        fields = _FIELDS.pack(_MARK, len(self.lines), self.member_hash, self.clicks, zlib.crc32(self.lines))
        return fields + _CRC.pack(zlib.crc32(fields)) + self.lines


class StoredRecord(NamedTuple):
    """A record, and where it ends."""

    record: Record
    end: int

    def shifted(self, by: int) -> StoredRecord:
        """The same in bytes that begin so much earlier."""
        return StoredRecord(self.record, self.end + by)


class Damage(NamedTuple):
    """Bytes that are no record. ``torn``: what a crash in the middle of a write leaves at the end, and no more."""

    start: int
    end: int
    torn: bool

    def shifted(self, by: int) -> Damage:
        """The same in bytes that begin so much earlier."""
        return Damage(self.start + by, self.end + by, self.torn)


def scan(data: bytes, *, old: bool) -> Iterator[StoredRecord | Damage]:
    """All of ``data`` in its order, from a record's beginning or any other place."""
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
    """All of a segment: as ``scan``, without its magic. A crash may have left the beginning of that."""
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        yield from [Damage(0, len(data), torn=True)] if data else []
        return
    at = len(MAGIC) if data.startswith(MAGIC) else 0
    for found in scan(data[at:], old=is_old(data)):
        yield found.shifted(at)


def is_old(data: bytes) -> bool:
    """Whether a segment is of the version before; one whose magic is damaged is not."""
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
    """What the header here says, if it is one and its CRC is right."""
    if not data.startswith(_MARK, at) or at + _HEADER_BYTES > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, at + _FIELDS.size)
    if zlib.crc32(data[at : at + _FIELDS.size]) != crc:
        return None
    length: int = _FIELDS.unpack_from(data, at)[1]
    return length


def _next(data: bytes, at: int) -> int:
    """Where the next whole record begins; the end when there is none."""
    while (at := data.find(_MARK, at)) >= 0:
        if _record_at(data, at) is not None:
            return at
        at += 1
    return len(data)


def _torn(rest: bytes, *, old: bool) -> bool:
    """Whether this is the beginning of a record and nothing else, or what a file system leaves of one: zeros.

    In the old version the beginning of a record and one with a damaged length look the same: it is damage.
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
        # Most braces stand within lines, and four of their letters make a length of a gigabyte: no CRC is taken.
        if at < end <= len(data) and data[end - 1] == ord("}") and _old_record_at(data, start) is not None:
            return start
        at += 1
    return len(data)
