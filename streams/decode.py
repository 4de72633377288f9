"""Records to columns: read the lines, refuse what is wrong with a reason, keep all else.

Everything here is a function of the records alone, so a replay refuses the same clicks.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import xxhash

from ingest.click import (
    BLOCK_CLICKS_MAX,
    ID_LENGTH_MAX,
    THING_LENGTH_MAX,
    UNREADABLE,
    VERSION,
    Click,
    Reason,
    decode,
    decode_block,
    position,
)
from streams.dedupe import ORDERED_AT_MAX_MS, UNDO_BIT
from streams.records import LogRecord
from streams.table import I64, U64

_HASH_MASK: Final = (1 << UNDO_BIT) - 1
_DASHES: Final = [8, 13, 18, 23]


@dataclass(slots=True)
class Refused:
    """One refused click or record: where it stands, when its record is from, why, and its bytes."""

    position: int
    record_at_ms: int
    reason: Reason
    detail: str
    raw: bytes


@dataclass(slots=True)
class Clicks:
    """Readable clicks of one partition in log order, with where each stands and when its record is from."""

    clicks: list[Click]
    positions: U64
    record_at_ms: I64
    refused: list[Refused] = field(default_factory=list)


def read(records: Sequence[LogRecord], epoch: int) -> Clicks:
    """Read all clicks of the records. What cannot be read is in ``refused``."""
    singles = _read_singles(records, epoch)
    if singles is not None:
        return singles
    clicks: list[Click] = []
    positions: list[U64] = []
    counts = []
    refused: list[Refused] = []
    for record in records:
        start = position(epoch, record.offset, 0)
        try:
            block = decode_block(record.value)
            good = len(block) <= BLOCK_CLICKS_MAX and len(block) > 0
        except UNREADABLE:
            good = False
        if good:
            positions.append(np.arange(start, start + len(block), dtype=np.uint64))
        else:
            block, indices = _read_lines(record, start, refused)
            positions.append(np.array(indices, np.uint64) + np.uint64(start))
        clicks += block
        counts.append(len(block))
    times = np.array([record.timestamp_ms for record in records], np.int64)
    return Clicks(
        clicks,
        np.concatenate(positions) if positions else np.empty(0, np.uint64),
        np.repeat(times, counts),
        refused,
    )


def _read_singles(records: Sequence[LogRecord], epoch: int) -> Clicks | None:
    """All records in one call when each is a single object on a single line, as most single-click producers write.

    Objects cannot run over the joint of two records: after a closing brace JSON wants a comma
    or an end, never an opening brace. So as many clicks as records means one each.
    """
    if len(records) < 2:
        return None
    joined = b"\n".join([record.value for record in records])
    joints = len(records) - 1
    if joined.count(b"}\n{") != joints or joined.count(b"\n") != joints or joined[:1] != b"{" or joined[-1:] != b"}":
        return None
    try:
        clicks = decode_block(joined)
    except UNREADABLE:
        return None
    if len(clicks) != len(records):
        return None
    offsets = np.array([record.offset for record in records], np.uint64)
    times = np.array([record.timestamp_ms for record in records], np.int64)
    return Clicks(clicks, (offsets << np.uint64(16)) + np.uint64(position(epoch, 0, 0)), times)


def _read_lines(record: LogRecord, start: int, refused: list[Refused]) -> tuple[list[Click], list[int]]:
    """Line by line: one wrong line takes none of the others with it."""
    clicks: list[Click] = []
    indices: list[int] = []
    lines = [line for line in record.value.split(b"\n") if line.strip()]
    if len(lines) > BLOCK_CLICKS_MAX:
        detail = f"{len(lines)} clicks in a block, {BLOCK_CLICKS_MAX} are the most"
        refused.append(Refused(start, record.timestamp_ms, Reason.BLOCK_TOO_LONG, detail, record.value))
        return clicks, indices
    if not lines:
        refused.append(Refused(start, record.timestamp_ms, Reason.BODY_EMPTY, "a record without a click", record.value))
    for index, line in enumerate(lines):
        try:
            clicks.append(decode(line))
            indices.append(index)
        except msgspec.ValidationError as error:
            reason = Reason.FIELD_MISSING if "missing required field" in str(error) else Reason.FIELD_TYPE
            refused.append(Refused(start + index, record.timestamp_ms, reason, str(error), line))
        except UNREADABLE as error:
            refused.append(Refused(start + index, record.timestamp_ms, Reason.JSON_MALFORMED, str(error), line))
    return clicks, indices


@dataclass(slots=True)
class Columns:
    """Well-formed clicks as columns. 128-bit names are pairs of columns, high half first."""

    clicks: list[Click]
    positions: U64
    record_at_ms: I64
    click_ids: bytes  # 16 each
    thing_ids: bytes  # 16 each
    versions: U64

    @property
    def things(self) -> tuple[U64, U64]:
        """The thing ids as two columns."""
        halves = np.frombuffer(self.thing_ids, "<u8")
        return halves[0::2], halves[1::2]


def columns(read_clicks: Clicks) -> Columns:
    """Check every click's fields and lay the good ones out; the others move to ``refused``."""
    laid = _lay_out(read_clicks.clicks, read_clicks.positions, read_clicks.record_at_ms)
    if laid is not None:
        return laid
    keep = []
    for index, click in enumerate(read_clicks.clicks):
        wrong = _wrong(click)
        if wrong is None:
            keep.append(index)
        else:
            at, record_at = int(read_clicks.positions[index]), int(read_clicks.record_at_ms[index])
            read_clicks.refused.append(Refused(at, record_at, *wrong, msgspec.json.encode(click)))
    laid = _lay_out(
        [read_clicks.clicks[index] for index in keep], read_clicks.positions[keep], read_clicks.record_at_ms[keep]
    )
    if laid is None:
        raise AssertionError("a click that was found well-formed cannot be laid out")
    return laid


def _lay_out(clicks: list[Click], positions: U64, record_at_ms: I64) -> Columns | None:
    """Lay out clicks that are all well-formed, checked column by column; None when any is not."""
    if not all(map(_within_limits, clicks)):
        return None
    click_ids = _unhex("".join([click.click_id for click in clicks]), len(clicks), dashed=True)
    thing_ids = _unhex("".join([click.thing_id for click in clicks]), len(clicks), dashed=False)
    if click_ids is None or thing_ids is None:
        return None
    times = np.array([click.ordered_at for click in clicks], np.uint64)
    undos = np.array([click.action == "undo" for click in clicks], np.uint64)
    hashes = np.fromiter(
        (xxhash.xxh3_64_intdigest(click_ids[at : at + 16]) & _HASH_MASK for at in range(0, len(click_ids), 16)),
        np.uint64,
        len(clicks),
    )
    versions = times << np.uint64(UNDO_BIT + 1) | undos << np.uint64(UNDO_BIT) | hashes
    return Columns(clicks, positions, record_at_ms, click_ids, thing_ids, versions)


def _within_limits(click: Click) -> bool:
    return (
        click.v == VERSION
        and 0 < len(click.member_id) <= ID_LENGTH_MAX
        and 0 < len(click.creator_id) <= ID_LENGTH_MAX
        and len(click.site_id) <= ID_LENGTH_MAX
        and len(click.thing) <= THING_LENGTH_MAX
        and len(click.click_id) == 36
        and len(click.thing_id) == 32
        and 0 < click.clicked_at < ORDERED_AT_MAX_MS
        and (click.client_at is None or 0 < click.client_at < ORDERED_AT_MAX_MS)
    )


def _unhex(text: str, count: int, *, dashed: bool) -> bytes | None:
    """Bytes of ``count`` hexadecimal 128-bit names of equal length; None when one is malformed."""
    try:
        data = text.encode("ascii")
        if dashed:
            grid = np.frombuffer(data, np.uint8).reshape(count, 36)
            if not (grid[:, _DASHES] == ord("-")).all():
                return None
            data = np.delete(grid, _DASHES, axis=1).tobytes()
        return binascii.unhexlify(data)
    except ValueError:
        return None


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
    if len(click.click_id) != 36 or _unhex(click.click_id, 1, dashed=True) is None:
        return Reason.FIELD_VALUE, "click_id is not a UUID"
    if len(click.thing_id) != 32 or _unhex(click.thing_id, 1, dashed=False) is None:
        return Reason.FIELD_VALUE, "thing_id is not 32 hexadecimal digits"
    return None


_LENGTHS: Final = (
    ("member_id", 1, ID_LENGTH_MAX),
    ("creator_id", 1, ID_LENGTH_MAX),
    ("site_id", 0, ID_LENGTH_MAX),
    ("thing", 0, THING_LENGTH_MAX),
)
