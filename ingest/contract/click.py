"""The click: the format that ingest and streams share.

Version 1 of the wire format: a click on the topic ``clicks`` is one JSON object, and a Kafka record is a *block*,
one or more clicks of one partition, one per line. This package depends on the standard library, msgspec and, for
things, ada-url; it opens no socket, reads no clock and decides nothing about money.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

VERSION: Final = 1

#: ``subscribe`` is a flattr that repeats on the first of every month, ``unsubscribe`` ends that.
ActionName = Literal["flattr", "undo", "subscribe", "unsubscribe"]


class Click(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One click as it stands on the topic. Unknown fields are ignored: they come from a newer version.

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
    #: When the request left, by the same clock as clicked_at. None if the client did not say, or if clicked_at is ours.
    sent_at: int | None = None
    #: No longer written. On old records whose clicked_at ingest corrected: the client's own time.
    client_at: int | None = None
    #: Of ``subscribe``: the last month in which it repeats, such as ``2026-11``. None: until it is ended.
    until: str | None = None


_RECEIVED: Final = re.compile(rb'"received_at":([0-9]+)')
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Click)


#: Everything that decoding hostile bytes can raise.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(click: Click) -> bytes:
    """One line of a block, without its newline."""
    return _encoder.encode(click)


def encode_block(clicks: Sequence[Click]) -> bytes:
    """A block, or a part of one: a line for each click, without the last newline."""
    return _encoder.encode_lines(clicks)[:-1]


def decode(line: bytes) -> Click:
    """Decode one line. Raises the errors in ``UNREADABLE``: bad JSON or types, bad UTF-8, too deep a nesting."""
    return _decoder.decode(line)


def decode_block(value: bytes) -> list[Click]:
    """Decode a whole block, all or nothing. Raises the errors in ``UNREADABLE`` when any line is invalid."""
    return _decoder.decode_lines(value)


def received_until(lines: bytes, at_ms: int) -> bytes:
    """A block's lines with every ``received_at`` capped at ``at_ms``; the same bytes if none is later."""

    def bounded(found: re.Match[bytes]) -> bytes:
        return b'"received_at":%d' % min(int(found[1]), at_ms)

    # Quotes inside JSON strings are escaped, so the pattern can only match the field itself.
    if max(map(int, _RECEIVED.findall(lines)), default=0) <= at_ms:
        return lines
    return _RECEIVED.sub(bounded, lines)
