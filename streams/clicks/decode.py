"""Records to columns: decode the lines, and refuse malformed ones with a reason.

Everything here is a function of the records alone, so a replay refuses the same clicks.

Records in the form that ingest writes are scanned (streams/clicks/scan.py). Others are decoded as whole blocks into
``ClickLine``, whose limits msgspec checks while decoding. A block with any error is decoded again line by line, to find
the malformed lines, say why, and accept the others.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from ingest.contract.click import UNREADABLE, VERSION, ActionName, Click, decode
from ingest.contract.month import MonthText, parse_month
from ingest.contract.names import ID_LENGTH_MAX, IDENTIFIER, IDENTIFIER_RULE, Name
from ingest.contract.position import BLOCK_CLICKS_MAX, index_of, offset_of, position
from ingest.contract.rejection import Reason
from ingest.contract.thing import THING_LENGTH_MAX, Thing
from ingest.contract.times import TIME_END_MS, Time
from streams.clicks.fields import ORDERS, TAKES_BACK, UNSAID, Fields, Ids
from streams.clicks.scan import scan
from streams.clicks.string_columns import NamesJoined
from streams.source.chunk import LogRecord, Records, joined
from streams.state.hash_table import I64, U64
from streams.state.word import UNDO_BIT

_DASHES: Final = [8, 13, 18, 23]
_UUID_LENGTH: Final = 36
_HEX_LENGTH: Final = 32
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_ACTIONS: Final[dict[ActionName, int]] = {
    "flattr": 0, "undo": TAKES_BACK, "subscribe": ORDERS, "unsubscribe": ORDERS | TAKES_BACK,
}  # fmt: skip


class ClickLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A click (ingest/contract/click.py) with its limits as types. Unknown fields are ignored.

    The characters of names are checked later, for a whole column at once (``StringColumn.visible``).
    """

    v: Literal[1]
    click_id: Annotated[str, Meta(min_length=_UUID_LENGTH, max_length=_UUID_LENGTH)]
    action: ActionName
    member_id: Name
    creator_id: Name
    thing: Thing
    thing_id: Annotated[str, Meta(min_length=_HEX_LENGTH, max_length=_HEX_LENGTH)]
    site_id: Annotated[str, Meta(max_length=ID_LENGTH_MAX)]
    clicked_at: Time
    received_at: Time
    sent_at: Time | None = None
    client_at: Time | None = None
    until: MonthText | None = None


_lines = msgspec.json.Decoder(ClickLine)
#: A click, or why it is refused.
Verdict = ClickLine | tuple[Reason, str]


@dataclass(slots=True)
class RefusedLine:
    """One refused click or record: its position, its record's stamp, the reason, and its bytes."""

    position: int
    record_at_ms: int
    reason: Reason
    detail: str
    raw: bytes


@dataclass(slots=True, kw_only=True)
class Columns(Fields):
    """Well-formed clicks of one partition in log order, as columns of length n, and what was refused on the way.

    Clicks are not stored as objects; ``lines`` decodes again the few that are needed.
    """

    records: Records
    positions: U64
    record_at_ms: I64
    #: The low bits of a version: the undo bit, and a hash of the click id.
    marks: U64
    refused: list[RefusedLine]
    #: Set once streams/counting/decide.py has decided the times: those, and the full versions.
    times_ms: I64 = field(init=False)
    versions: U64 = field(init=False)

    def __len__(self) -> int:
        return len(self.positions)

    def lines(self, indices: Iterable[int]) -> Iterator[ClickLine]:
        """Decode the clicks at these ascending indices, with their members named as in the column."""
        offset, places = -1, dict[int, ClickLine]()
        for index in indices:
            at = int(self.positions[index])
            if offset != offset_of(at):
                offset = offset_of(at)
                verdicts = _read_record(self.records.since(offset)[0], 0, [])
                places = {place: verdict for place, verdict, _ in verdicts if isinstance(verdict, ClickLine)}
            yield msgspec.structs.replace(places[index_of(at)], member_id=self.members[index])


def read(records: Sequence[LogRecord], epoch: int) -> Columns:
    """Decode all clicks of the records; positions get the given log epoch."""
    records = joined([records])
    found = scan(records) or _read_blocks(records)
    if found is None:
        return _read_slowly(records, epoch)
    fields, counts = found
    starts = records.offsets.astype(np.uint64) << np.uint64(16)
    first = np.cumsum(counts) - counts
    indices = np.arange(counts.sum()) - np.repeat(first, counts)
    positions = np.repeat(starts, counts) + indices.astype(np.uint64) + np.uint64(position(epoch, 0, 0))
    return _columns(fields, records, positions, np.repeat(records.stamps_ms, counts), [])


def _read_blocks(records: Iterable[LogRecord]) -> tuple[Fields, I64] | None:
    """Decode record by record; also returns the clicks per record. None if anything is malformed."""
    gathered = _Gathered()
    counts: list[int] = []
    for record in records:
        try:
            clicks = _lines.decode_lines(record.value)
        except UNREADABLE:
            return None
        if not 0 < len(clicks) <= BLOCK_CLICKS_MAX:
            return None
        gathered.add(clicks)
        counts.append(len(clicks))
    fields = gathered.fields()
    return None if fields is None else (fields, np.array(counts, np.int64))


class _Gathered:
    """Collects the fields of clicks for the columns.

    Fields are taken out block by block and the objects dropped while they are in the CPU cache: with the objects of a
    whole batch alive, decoding takes half as long again.
    """

    def __init__(self) -> None:
        self._members, self._creators, self._sites, self._things = (NamesJoined() for _ in range(4))
        self._click_ids: list[str] = []
        self._thing_ids: list[str] = []
        self._clicked_at_ms: list[int] = []
        self._received_at_ms: list[int] = []
        self._sent_at_ms: list[int | None] = []
        self._client_at_ms: list[int | None] = []
        self._actions = bytearray()

    def add(self, clicks: list[ClickLine]) -> None:
        """Append clicks."""
        self._members.add([click.member_id for click in clicks])
        self._creators.add([click.creator_id for click in clicks])
        self._sites.add([click.site_id for click in clicks])
        self._things.add([click.thing for click in clicks])
        self._click_ids += [click.click_id for click in clicks]
        self._thing_ids += [click.thing_id for click in clicks]
        self._clicked_at_ms += [click.clicked_at for click in clicks]
        self._received_at_ms += [click.received_at for click in clicks]
        self._sent_at_ms += [click.sent_at for click in clicks]
        self._client_at_ms += [click.client_at for click in clicks]
        self._actions += bytes([_ACTIONS[click.action] for click in clicks])

    def fields(self) -> Fields | None:
        """Build the columns; None when a name or an id is malformed."""
        click_ids = _unhex("".join(self._click_ids), len(self._click_ids), dashed=True)
        thing_ids = _unhex("".join(self._thing_ids), len(self._thing_ids), dashed=False)
        members, creators, sites = (names.names() for names in (self._members, self._creators, self._sites))
        if click_ids is None or thing_ids is None or not all(one.visible() for one in (members, creators, sites)):
            return None
        return Fields(
            members, creators, sites, self._things.names(), thing_ids, click_ids,
            np.array(self._clicked_at_ms, np.int64), np.array(self._received_at_ms, np.int64),
            _times_said(self._sent_at_ms), _times_said(self._client_at_ms), np.frombuffer(self._actions, np.uint8),
        )  # fmt: skip


def _columns(
    fields: Fields, records: Records, positions: U64, record_at_ms: I64, refused: list[RefusedLine]
) -> Columns:
    high, low = halves(fields.click_ids)
    hashes = ((high ^ low * _ODD) * _ODD) >> np.uint64(64 - UNDO_BIT)
    takes_back = (fields.actions & TAKES_BACK).astype(np.uint64)
    return Columns(
        **{name: getattr(fields, name) for name in Fields.__slots__},
        records=records,
        positions=positions,
        record_at_ms=record_at_ms,
        marks=takes_back << np.uint64(UNDO_BIT) | hashes,
        refused=refused,
    )


def _times_said(times: list[int | None]) -> I64 | None:
    if times.count(None) == len(times):
        return None
    return np.array([UNSAID if at is None else at for at in times], np.int64)


def halves(ids: Ids) -> tuple[U64, U64]:
    """128-bit ids as two UInt64 columns, the first eight bytes first."""
    words: U64 = ids.view("<u8")
    return words[0::2], words[1::2]


def _unhex(text: str, count: int, *, dashed: bool) -> Ids | None:
    """Decode ``count`` concatenated 128-bit ids in hexadecimal; None when one is malformed."""
    try:
        data = text.encode("ascii")
        if dashed:
            grid = np.frombuffer(data, np.uint8).reshape(count, _UUID_LENGTH)
            if not (grid[:, _DASHES] == ord("-")).all():
                return None
            data = np.delete(grid, _DASHES, axis=1).tobytes()
        return np.frombuffer(binascii.unhexlify(data), "V16")
    except ValueError:
        return None


def _read_slowly(records: Records, epoch: int) -> Columns:
    """Decode record by record, and line by line if one is malformed, so that only the malformed lines are refused."""
    good: list[ClickLine] = []
    positions: list[int] = []
    times: list[int] = []
    refused: list[RefusedLine] = []
    for record in records:
        start = position(epoch, record.offset, 0)
        for index, verdict, line in _read_record(record, start, refused):
            if isinstance(verdict, ClickLine):
                good.append(verdict)
                positions.append(start + index)
                times.append(record.timestamp_ms)
            else:
                refused.append(RefusedLine(start + index, record.timestamp_ms, *verdict, line))
    gathered = _Gathered()
    gathered.add(good)
    fields = gathered.fields()
    if fields is None:
        raise AssertionError("bug: a well-formed click does not fit the columns")
    return _columns(fields, records, np.array(positions, np.uint64), np.array(times, np.int64), refused)


def _read_record(record: LogRecord, start: int, refused: list[RefusedLine]) -> list[tuple[int, Verdict, bytes]]:
    """Index, verdict and bytes of each click.

    A record's clicks must not depend on its neighbours, so a record that decodes as a whole is decoded as a whole here
    as well.
    """
    try:
        clicks = _lines.decode_lines(record.value)
    except UNREADABLE:
        clicks = []
    if 0 < len(clicks) <= BLOCK_CLICKS_MAX and all(_wrong(click) is None for click in clicks):
        return [(index, click, b"") for index, click in enumerate(clicks)]
    return [(index, _read_line(line), line) for index, line in enumerate(_split(record, start, refused))]


def _split(record: LogRecord, start: int, refused: list[RefusedLine]) -> list[bytes]:
    lines = [line for line in record.value.split(b"\n") if line.strip()]
    if 0 < len(lines) <= BLOCK_CLICKS_MAX:
        return lines
    if lines:
        reason, detail = Reason.BLOCK_TOO_LONG, f"{len(lines)} clicks in a block; the maximum is {BLOCK_CLICKS_MAX}"
    else:
        reason, detail = Reason.BODY_EMPTY, "the record contains no click"
    refused.append(RefusedLine(start, record.timestamp_ms, reason, detail, record.value))
    return []


def _read_line(line: bytes) -> Verdict:
    """Decode one click, or say why it is refused."""
    try:
        click = decode(line)
    except msgspec.ValidationError as error:
        return (Reason.FIELD_MISSING if "missing required field" in str(error) else Reason.FIELD_TYPE), str(error)
    except UNREADABLE as error:
        return Reason.JSON_MALFORMED, str(error)
    return _wrong(click) or _lines.decode(line)


def _wrong(click: Click | ClickLine) -> tuple[Reason, str] | None:
    """Why a decoded click is refused, or None."""
    if click.v != VERSION:
        return Reason.VERSION_UNKNOWN, f"version {click.v}; only version {VERSION} is supported"
    for name, high in _LENGTHS:
        length = len(getattr(click, name))
        if length > high:
            return Reason.FIELD_TOO_LONG, f"{name} has {length} characters; the maximum is {high}"
    wrong = next((name for name, right in _RULES.items() if not right(getattr(click, name))), None)
    return None if wrong is None else (Reason.FIELD_VALUE, f"{wrong} is not {_MEANT[wrong]}")


def _is_time(at: int | None) -> bool:
    return at is None or 0 <= at < TIME_END_MS


def _is_month(value: str) -> bool:
    try:
        parse_month(value)
    except ValueError:
        return False
    return True


def _is_name(value: str) -> bool:
    return IDENTIFIER.fullmatch(value) is not None


_LENGTHS: Final = (
    ("member_id", ID_LENGTH_MAX),
    ("creator_id", ID_LENGTH_MAX),
    ("site_id", ID_LENGTH_MAX),
    ("thing", THING_LENGTH_MAX),
)
_RULES: Final[dict[str, Callable[[Any], bool]]] = {
    "member_id": _is_name,
    "creator_id": _is_name,
    "site_id": lambda value: not value or _is_name(value),
    "thing": bool,
    **dict.fromkeys(("clicked_at", "received_at", "sent_at", "client_at"), _is_time),
    "until": lambda value: value is None or _is_month(value),
    "click_id": lambda value: len(value) == _UUID_LENGTH and _unhex(value, 1, dashed=True) is not None,
    "thing_id": lambda value: len(value) == _HEX_LENGTH and _unhex(value, 1, dashed=False) is not None,
}
_MEANT: Final = {
    **dict.fromkeys(("member_id", "creator_id", "site_id"), IDENTIFIER_RULE),
    "thing": "an address or id",
    **dict.fromkeys(("clicked_at", "received_at", "sent_at", "client_at"), "a time in ms since 1970"),
    "until": "a month such as 2026-11",
    "click_id": "a UUID",
    "thing_id": "32 hexadecimal digits",
}
