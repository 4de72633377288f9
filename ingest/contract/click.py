"""The click: the one format that ingest and streams share.

Wire format, version 1, of one click on the topic ``clicks``: one JSON object.
A Kafka record is a *block*: one or more clicks of one partition, one per line.
The package knows the standard library, msgspec and, for things, ada-url; it opens no socket,
reads no clock and decides nothing about money.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

VERSION: Final = 1

ActionName = Literal["flattr", "undo"]


class Click(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One click, as it stands on the topic. Unknown fields pass: they are from a newer version.

    Times are milliseconds since 1970 in UTC. ``thing_id`` is 32 hexadecimal digits.
    """

    v: int
    click_id: str
    action: ActionName
    member_id: str
    creator_id: str
    thing: str
    thing_id: str
    site_id: str
    clicked_at: int
    received_at: int
    #: When the request left, by the clock that clicked_at is by. None: the client did not say, or clicked_at is ours.
    sent_at: int | None = None
    #: No longer written: the client's time before ingest moved clicked_at, on records of before that it moved.
    client_at: int | None = None


_RECEIVED: Final = re.compile(rb'"received_at":([0-9]+)')
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Click)


#: Whatever decoding hostile bytes can raise.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(click: Click) -> bytes:
    """One line of a block, without its newline."""
    return _encoder.encode(click)


def decode(line: bytes) -> Click:
    """Read one line back. Raises ``msgspec.DecodeError`` (its subclass ``ValidationError`` on a wrong type).

    Bytes that are no UTF-8 raise ``UnicodeDecodeError``, too deep a nesting ``RecursionError``: see ``UNREADABLE``.
    """
    return _decoder.decode(line)


def decode_block(value: bytes) -> list[Click]:
    """Read a whole block, all or nothing. Raises ``msgspec.DecodeError`` when any line is wrong."""
    return _decoder.decode_lines(value)


def received_until(lines: bytes, at_ms: int) -> bytes:
    """A block's lines, none of them received later than ``at_ms``; the same bytes where that holds already."""

    def bounded(found: re.Match[bytes]) -> bytes:
        return b'"received_at":%d' % min(int(found[1]), at_ms)

    # In a string of JSON every quote has a backslash before it, so this finds the field alone.
    if max(map(int, _RECEIVED.findall(lines)), default=0) <= at_ms:
        return lines
    return _RECEIVED.sub(bounded, lines)
