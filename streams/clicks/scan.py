"""Clicks as columns from the bytes that ingest writes, in one compiled pass without the GIL.

Ingest writes every click in one form: the fields in the contract's order, without blanks, and without escapes unless
an address has quotes. What has exactly that form is read here. Anything else, another producer's, an older or a wrong
click, makes ``scan`` return None, and msgspec reads the records instead (streams/clicks/decode.py). So this decides
nothing: what it accepts means the same to msgspec, and tests/streams/test_scan.py holds it to that.

Every step stops at a zero byte, one of which stands behind every record, so no loop reads past it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ingest.contract.names import ID_LENGTH_MAX
from ingest.contract.position import BLOCK_CLICKS_MAX
from ingest.contract.thing import THING_LENGTH_MAX
from ingest.contract.times import TIME_END_MS
from streams.clicks.fields import ORDERS, TAKES_BACK, UNSAID, Fields
from streams.clicks.string_columns import StringColumn
from streams.source.chunk import Records
from streams.state.hash_table import I64, U8, compiled


def _literal(text: bytes) -> U8:
    return np.frombuffer(text, np.uint8)


_CLICK_ID: Final = _literal(b'{"v":1,"click_id":"')
_ACTION: Final = _literal(b'","action":"')
_FLATTR: Final = _literal(b'flattr","member_id":"')
_UNDO: Final = _literal(b'undo","member_id":"')
_SUBSCRIBE: Final = _literal(b'subscribe","member_id":"')
_UNSUBSCRIBE: Final = _literal(b'unsubscribe","member_id":"')
_CREATOR: Final = _literal(b',"creator_id":"')
_THING: Final = _literal(b',"thing":"')
_THING_ID: Final = _literal(b',"thing_id":"')
_SITE: Final = _literal(b'","site_id":"')
_CLICKED: Final = _literal(b',"clicked_at":')
_RECEIVED: Final = _literal(b',"received_at":')
_SENT: Final = _literal(b',"sent_at":')
_END: Final = _literal(b"}")
_ALWAYS: Final = (_CLICK_ID, _ACTION, _UNDO, _CREATOR, _THING, _THING_ID, _SITE, _CLICKED, _RECEIVED, _END)
#: No click is shorter: two ids in hexadecimal, and a byte for each name and time that cannot be empty.
_LINE_BYTES_MIN: Final = sum(map(len, _ALWAYS)) + 36 + 32 + 3 + 2
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_NEWLINE: Final = ord("\n")
_ZERO: Final = ord("0")
_DASH: Final = ord("-")
_TIME_DIGITS: Final = len(str(TIME_END_MS - 1))
_NO_DIGIT: Final = 16
#: Byte -> the value of a digit in small hexadecimal.
_DIGITS: Final = np.full(256, _NO_DIGIT, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(_NO_DIGIT)
#: Groups of a click id, in bytes, with dashes between; and those of a thing id.
_UUID: Final = np.array([4, 2, 2, 2, 6])
_WHOLE: Final = np.array([16])


def scan(records: Records) -> tuple[Fields, I64] | None:
    """The clicks of these records, and how many each record has; None unless all have ingest's form."""
    size = int(records.sizes.sum())
    most = size // _LINE_BYTES_MIN + 1
    members, creators, sites = (_Names(most * ID_LENGTH_MAX, most) for _ in range(3))
    things = _Names(size, most)
    ids = np.empty((2, most, 16), np.uint8)
    times = np.empty((3, most), np.int64)
    actions, counts = np.empty(most, np.uint8), np.empty(len(records), np.int64)
    count = _scan(
        np.frombuffer(records.data, np.uint8), records.starts, records.ends, members.data, members.ends,
        creators.data, creators.ends, sites.data, sites.ends, things.data, things.ends, ids, times, actions, counts,
    )  # fmt: skip
    if count < 0 or not things.is_text(count):
        return None
    sent = times[2, :count]
    fields = Fields(
        members.column(count), creators.column(count), sites.column(count), things.column(count),
        ids[1, :count].copy().view("V16")[:, 0], ids[0, :count].copy().view("V16")[:, 0],
        times[0, :count].copy(), times[1, :count].copy(), sent.copy() if (sent != UNSAID).any() else None, None,
        actions[:count].copy(),
    )  # fmt: skip
    return fields, counts


class _Names:
    """Room for a column of names."""

    def __init__(self, bytes_max: int, most: int) -> None:
        self.data = np.empty(bytes_max, np.uint8)
        self.ends = np.empty(most, np.int64)

    def is_text(self, count: int) -> bool:
        """Whether the names are UTF-8. Each begins with a character, so none can borrow from its neighbour."""
        data = self.data[: self.ends[count - 1]]
        if not len(data) or data.max() < 0x80:
            return True
        try:
            data.tobytes().decode()
        except UnicodeDecodeError:
            return False
        return True

    def column(self, count: int) -> StringColumn:
        """The first names, in memory of their own."""
        data = self.data[: self.ends[count - 1]].copy() if self.ends[count - 1] else np.zeros(1, np.uint8)
        data.setflags(write=False)  # or the loops over names would be compiled twice
        return StringColumn(data, self.ends[:count].copy())


@compiled
def _scan(  # noqa: PLR0913, PLR0917 - the columns
    data: U8, record_starts: I64, record_ends: I64, members: U8, member_ends: I64, creators: U8, creator_ends: I64,
    sites: U8, site_ends: I64, things: U8, thing_ends: I64, ids: U8, times: I64, actions: U8, counts: I64,
) -> int:  # fmt: skip
    """Fill the columns and return how many clicks there are, or -1."""
    n = 0
    for record in range(len(record_ends)):
        first = n
        at = record_starts[record]
        while True:
            at = _hex(data, _after(data, at, _CLICK_ID), _UUID, ids[0, n])
            at, actions[n] = _action(data, _after(data, at, _ACTION))
            at = _name(data, at, 1, members, member_ends, n)
            at = _name(data, _after(data, at, _CREATOR), 1, creators, creator_ends, n)
            at = _text(data, _after(data, at, _THING), things, thing_ends, n)
            at = _hex(data, _after(data, at, _THING_ID), _WHOLE, ids[1, n])
            at = _name(data, _after(data, at, _SITE), 0, sites, site_ends, n)
            at, times[0, n] = _time(data, _after(data, at, _CLICKED))
            at, times[1, n] = _time(data, _after(data, at, _RECEIVED))
            times[2, n] = UNSAID
            sent = _after(data, at, _SENT)
            if sent >= 0:
                at, times[2, n] = _time(data, sent)
            at = _after(data, at, _END)
            n += 1
            if at == record_ends[record]:
                break
            if at < 0 or at > record_ends[record] or data[at] != _NEWLINE or n - first == BLOCK_CLICKS_MAX:
                return -1
            at += 1
        counts[record] = n - first
    return n


# Each of these takes the place where something should begin, or -1, and returns the place behind it, or -1.


@compiled
def _after(data: U8, at: int, literal: U8) -> int:
    if at < 0:
        return -1
    for i in range(len(literal)):
        if data[at + i] != literal[i]:
            return -1
    return at + len(literal)


@compiled
def _action(data: U8, at: int) -> tuple[int, int]:
    """An action, up to the begin of the member's name; and its bits."""
    behind = _after(data, at, _FLATTR)
    if behind >= 0:
        return behind, 0
    behind = _after(data, at, _UNDO)
    if behind >= 0:
        return behind, TAKES_BACK
    behind = _after(data, at, _SUBSCRIBE)
    if behind >= 0:
        return behind, ORDERS
    return _after(data, at, _UNSUBSCRIBE), ORDERS | TAKES_BACK


@compiled
def _name(data: U8, at: int, length_min: int, names: U8, ends: I64, n: int) -> int:  # noqa: PLR0913, PLR0917 - from where, to where
    """A name of visible ASCII, up to behind its closing quote."""
    if at < 0:
        return -1
    start = to = ends[n - 1] if n else 0
    while data[at] != _QUOTE:
        byte = data[at]
        if byte <= 0x20 or byte >= 0x7F or byte == _BACKSLASH or to - start == ID_LENGTH_MAX:
            return -1
        names[to] = byte
        at += 1
        to += 1
    ends[n] = to
    return at + 1 if to - start >= length_min else -1


@compiled
def _text(data: U8, at: int, texts: U8, ends: I64, n: int) -> int:
    """A thing, up to behind its closing quote, in characters of any kind but controls; the caller checks its UTF-8."""
    if at < 0 or data[at] & 0xC0 == 0x80:
        return -1
    to = ends[n - 1] if n else 0
    length = 0
    while data[at] != _QUOTE:
        byte = data[at]
        length += byte & 0xC0 != 0x80
        if byte < 0x20 or byte in (0x7F, _BACKSLASH) or length > THING_LENGTH_MAX:
            return -1
        texts[to] = byte
        at += 1
        to += 1
    ends[n] = to
    return at + 1 if length else -1


@compiled
def _time(data: U8, at: int) -> tuple[int, int]:
    """Milliseconds, and the place behind them."""
    if at < 0:
        return -1, 0
    start, value = at, 0
    while _DIGITS[data[at]] < 10 and at - start <= _TIME_DIGITS:
        value = value * 10 + _DIGITS[data[at]]
        at += 1
    if at == start or value >= TIME_END_MS or (data[start] == _ZERO and at - start > 1):
        return -1, 0
    return at, value


@compiled
def _hex(data: U8, at: int, groups: I64, out: U8) -> int:
    """An id of 16 bytes in hexadecimal, in groups of bytes with a dash between them."""
    if at < 0:
        return -1
    to = 0
    for group in range(len(groups)):
        if group:
            if data[at] != _DASH:
                return -1
            at += 1
        for _ in range(groups[group]):
            high = _DIGITS[data[at]]
            if high == _NO_DIGIT:
                return -1
            low = _DIGITS[data[at + 1]]
            if low == _NO_DIGIT:
                return -1
            out[to] = high << 4 | low
            at += 2
            to += 1
    return at
