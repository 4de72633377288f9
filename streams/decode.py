"""Records to columns: read the lines, refuse what is wrong with a reason, keep all else.

Everything here is a function of the records alone, so a replay refuses the same clicks.

The fast way reads whole blocks into ``Line``, whose limits msgspec checks while it reads. A
block with anything wrong in it is read again line by line by the click format itself, which
finds the wrong lines, says why, and keeps the others.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from ingest.click import (
    BLOCK_CLICKS_MAX,
    ID_LENGTH_MAX,
    THING_LENGTH_MAX,
    UNREADABLE,
    VERSION,
    Click,
    Reason,
    decode,
    position,
)
from streams.dedupe import ORDERED_AT_MAX_MS, UNDO_BIT
from streams.records import LogRecord
from streams.table import I64, U64

_DASHES: Final = [8, 13, 18, 23]
_UUID_LENGTH: Final = 36
_HEX_LENGTH: Final = 32
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)

Id = Annotated[str, Meta(min_length=1, max_length=ID_LENGTH_MAX)]
Time = Annotated[int, Meta(gt=0, lt=ORDERED_AT_MAX_MS)]


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A click (ingest/click.py), with its limits as types. Unknown fields pass."""

    v: Literal[1]
    click_id: Annotated[str, Meta(min_length=_UUID_LENGTH, max_length=_UUID_LENGTH)]
    action: Literal["flattr", "undo"]
    member_id: Id
    creator_id: Id
    thing: Annotated[str, Meta(max_length=THING_LENGTH_MAX)]
    thing_id: Annotated[str, Meta(min_length=_HEX_LENGTH, max_length=_HEX_LENGTH)]
    site_id: Annotated[str, Meta(max_length=ID_LENGTH_MAX)]
    clicked_at: Time
    received_at: int
    client_at: Time | None = None


_lines = msgspec.json.Decoder(Line)


@dataclass(slots=True)
class Refused:
    """One refused click or record: where it stands, when its record is from, why, and its bytes."""

    position: int
    record_at_ms: int
    reason: Reason
    detail: str
    raw: bytes


@dataclass(slots=True)
class Columns:
    """Well-formed clicks of one partition in log order, as columns, and what was refused on the way."""

    clicks: list[Line]
    positions: U64
    record_at_ms: I64
    click_ids: bytes  # 16 each
    thing_ids: bytes  # 16 each
    versions: U64
    refused: list[Refused]

    @property
    def things(self) -> tuple[U64, U64]:
        """The thing ids as two columns."""
        halves = np.frombuffer(self.thing_ids, "<u8")
        return halves[0::2], halves[1::2]


def read(records: Sequence[LogRecord], epoch: int) -> Columns:
    """Read all clicks of the records."""
    clicks = _read_singles(records)
    if clicks is not None:
        counts = np.ones(len(records), np.int64)
    else:
        clicks, counts = _read_blocks(records)
    starts = np.array([record.offset for record in records], np.uint64) << np.uint64(16)
    times = np.array([record.timestamp_ms for record in records], np.int64)
    if (counts > 0).all() and (counts <= BLOCK_CLICKS_MAX).all():
        first = np.cumsum(counts) - counts
        indices = np.arange(len(clicks)) - np.repeat(first, counts)
        positions = np.repeat(starts, counts) + indices.astype(np.uint64) + np.uint64(position(epoch, 0, 0))
        laid = _lay_out(clicks, positions, np.repeat(times, counts), [])
        if laid is not None:
            return laid
    return _read_slowly(records, epoch)


def _read_singles(records: Sequence[LogRecord]) -> list[Line] | None:
    """All records in one call when each is a single object on a single line, as single-click producers write.

    Objects cannot run over the joint of two records: after a closing brace JSON wants a comma
    or an end, never an opening brace. So as many clicks as records means one each.
    """
    if b"\n" in records[0].value:
        return None
    joined = b"\n".join([record.value for record in records])
    joints = len(records) - 1
    if joined.count(b"}\n{") != joints or joined.count(b"\n") != joints or joined[:1] != b"{" or joined[-1:] != b"}":
        return None
    try:
        clicks = _lines.decode_lines(joined)
    except UNREADABLE:
        return None
    return clicks if len(clicks) == len(records) else None


def _read_blocks(records: Sequence[LogRecord]) -> tuple[list[Line], I64]:
    """Clicks and how many each record holds; -1 where anything is wrong."""
    clicks: list[Line] = []
    counts = np.empty(len(records), np.int64)
    for at, record in enumerate(records):
        try:
            block = _lines.decode_lines(record.value)
        except UNREADABLE:
            counts[at] = -1
        else:
            clicks += block
            counts[at] = len(block)
    return clicks, counts


def _lay_out(clicks: list[Line], positions: U64, record_at_ms: I64, refused: list[Refused]) -> Columns | None:
    """Columns of clicks whose fields are within limits; None when a hexadecimal one is malformed."""
    click_ids = _unhex("".join([click.click_id for click in clicks]), len(clicks), dashed=True)
    thing_ids = _unhex("".join([click.thing_id for click in clicks]), len(clicks), dashed=False)
    if click_ids is None or thing_ids is None:
        return None
    times = np.array([click.clicked_at if click.client_at is None else click.client_at for click in clicks], np.uint64)
    undos = np.array([click.action == "undo" for click in clicks], np.uint64)
    halves = np.frombuffer(click_ids, "<u8")
    hashes = ((halves[0::2] ^ halves[1::2] * _ODD) * _ODD) >> np.uint64(64 - UNDO_BIT)
    versions = times << np.uint64(UNDO_BIT + 1) | undos << np.uint64(UNDO_BIT) | hashes
    return Columns(clicks, positions, record_at_ms, click_ids, thing_ids, versions, refused)


def _unhex(text: str, count: int, *, dashed: bool) -> bytes | None:
    """Bytes of ``count`` hexadecimal 128-bit names of equal length; None when one is malformed."""
    try:
        data = text.encode("ascii")
        if dashed:
            grid = np.frombuffer(data, np.uint8).reshape(count, _UUID_LENGTH)
            if not (grid[:, _DASHES] == ord("-")).all():
                return None
            data = np.delete(grid, _DASHES, axis=1).tobytes()
        return binascii.unhexlify(data)
    except ValueError:
        return None


def _read_slowly(records: Sequence[LogRecord], epoch: int) -> Columns:
    """Record by record, and line by line where one is wrong: a wrong line takes none of the others with it."""
    good: list[Line] = []
    positions: list[int] = []
    times: list[int] = []
    refused: list[Refused] = []
    for record in records:
        start = position(epoch, record.offset, 0)
        for index, verdict, line in _read_record(record, start, refused):
            if isinstance(verdict, Line):
                good.append(verdict)
                positions.append(start + index)
                times.append(record.timestamp_ms)
            else:
                refused.append(Refused(start + index, record.timestamp_ms, *verdict, line))
    laid = _lay_out(good, np.array(positions, np.uint64), np.array(times, np.int64), refused)
    if laid is None:
        raise AssertionError("a click that was found well-formed cannot be laid out")
    return laid


Verdict = Line | tuple[Reason, str]


def _read_record(record: LogRecord, start: int, refused: list[Refused]) -> list[tuple[int, Verdict, bytes]]:
    """Index, verdict and bytes of each click. What a record holds must not depend on its neighbours.

    So a record that can be read as a whole is read as a whole here, too.
    """
    clicks, counts = _read_blocks([record])
    none = np.empty(0, np.uint64)
    if 0 < counts[0] <= BLOCK_CLICKS_MAX and _lay_out(clicks, none, none.astype(np.int64), []) is not None:
        return [(index, click, b"") for index, click in enumerate(clicks)]
    return [(index, _read_line(line), line) for index, line in enumerate(_split(record, start, refused))]


def _split(record: LogRecord, start: int, refused: list[Refused]) -> list[bytes]:
    lines = [line for line in record.value.split(b"\n") if line.strip()]
    if 0 < len(lines) <= BLOCK_CLICKS_MAX:
        return lines
    if lines:
        reason, detail = Reason.BLOCK_TOO_LONG, f"{len(lines)} clicks in a block, {BLOCK_CLICKS_MAX} are the most"
    else:
        reason, detail = Reason.BODY_EMPTY, "a record without a click"
    refused.append(Refused(start, record.timestamp_ms, reason, detail, record.value))
    return []


def _read_line(line: bytes) -> Verdict:
    """One click, or why it is refused."""
    try:
        click = decode(line)
    except msgspec.ValidationError as error:
        return (Reason.FIELD_MISSING if "missing required field" in str(error) else Reason.FIELD_TYPE), str(error)
    except UNREADABLE as error:
        return Reason.JSON_MALFORMED, str(error)
    return _wrong(click) or _lines.decode(line)


def _wrong(click: Click) -> tuple[Reason, str] | None:  # noqa: PLR0911 - one return per rule
    """Why a click that was read is refused, or None."""
    if click.v != VERSION:
        return Reason.VERSION_UNKNOWN, f"version {click.v}, this reads {VERSION}"
    for name, low, high in _LENGTHS:
        length = len(getattr(click, name))
        if length > high:
            return Reason.FIELD_TOO_LONG, f"{name} has {length} characters, {high} are the most"
        if length < low:
            return Reason.FIELD_VALUE, f"{name} is empty"
    for name in ("clicked_at", "client_at"):
        at = getattr(click, name)
        if at is not None and not 0 < at < ORDERED_AT_MAX_MS:
            return Reason.FIELD_VALUE, f"{name} is {at}, not a time in ms"
    if len(click.click_id) != _UUID_LENGTH or _unhex(click.click_id, 1, dashed=True) is None:
        return Reason.FIELD_VALUE, "click_id is not a UUID"
    if len(click.thing_id) != _HEX_LENGTH or _unhex(click.thing_id, 1, dashed=False) is None:
        return Reason.FIELD_VALUE, "thing_id is not 32 hexadecimal digits"
    return None


_LENGTHS: Final = (
    ("member_id", 1, ID_LENGTH_MAX),
    ("creator_id", 1, ID_LENGTH_MAX),
    ("site_id", 0, ID_LENGTH_MAX),
    ("thing", 0, THING_LENGTH_MAX),
)
