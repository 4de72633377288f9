"""The click: the one format that ingest and streams share.

Wire format, version 1, of one click on the topic ``clicks``: one JSON object.
A Kafka record is a *block*: one or more clicks of one partition, one per line.
This module knows the standard library and msgspec only; it opens no socket,
reads no clock and decides nothing about money.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

VERSION: Final = 1
ID_LENGTH_MAX: Final = 64
THING_LENGTH_MAX: Final = 2048
#: Times are milliseconds from 1970 until here, which is in 2248: the order of a flattr's words has 43 bits for them.
TIME_END_MS: Final = 1 << 43
#: A client whose clock is off by less than this is believed: what a request takes on its way must not move its clicks.
SKEW_MIN_MS: Final = 60_000
#: A click may be received so much after the stamp of its record, for machines' clocks differ; later is `time_ahead`.
AHEAD_MAX_MS: Final = 60_000
#: Member, creator and site: visible ASCII, so that no id hides a blank, a line end or a look-alike.
IDENTIFIER: Final = re.compile(rf"[\x21-\x7e]{{1,{ID_LENGTH_MAX}}}")
IDENTIFIER_RULE: Final = f"1 to {ID_LENGTH_MAX} visible ASCII characters"
#: What no thing has, whatever else its characters (code points) are: a control, or half a surrogate pair.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
THING_ID: Final = re.compile(r"[0-9a-f]{32}")
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

#: The fields' types, for whoever reads clicks: ingest from clients, streams from the log.
Id = Annotated[str, Meta(pattern=rf"^[\x21-\x7e]{{1,{ID_LENGTH_MAX}}}\Z")]
Time = Annotated[int, Meta(ge=0, lt=TIME_END_MS)]
Thing = Annotated[str, Meta(min_length=1, max_length=THING_LENGTH_MAX)]
#: A position has 16 bits for the click's index in its block.
BLOCK_CLICKS_MAX: Final = 1 << 16

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


class Reason(StrEnum):
    """Why a click was refused. The codes are part of the API and never change meaning."""

    # the request as a whole
    BODY_TOO_LARGE = "body_too_large"
    BATCH_TOO_LARGE = "batch_too_large"
    BODY_EMPTY = "body_empty"
    BODY_TIMEOUT = "body_timeout"
    ENCODING_UNSUPPORTED = "encoding_unsupported"
    ENCODING_BROKEN = "encoding_broken"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HTTP_MALFORMED = "http_malformed"
    HEAD_TOO_LARGE = "head_too_large"
    HEAD_TIMEOUT = "head_timeout"
    # who asks
    TOKEN_MISSING = "token_missing"  # noqa: S105 - a reason code, not a secret
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - the same
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - the same
    TOKEN_EARLY = "token_early"  # noqa: S105 - the same
    TOKEN_PURPOSE = "token_purpose"  # noqa: S105 - the same
    TOKEN_SCOPE = "token_scope"  # noqa: S105 - the same
    MEMBER_MISMATCH = "member_mismatch"
    SITE_UNKNOWN = "site_unknown"
    ORIGIN_FORBIDDEN = "origin_forbidden"
    RATE_LIMITED = "rate_limited"
    # the click itself
    JSON_MALFORMED = "json_malformed"
    NOT_AN_OBJECT = "not_an_object"
    FIELD_MISSING = "field_missing"
    FIELD_TYPE = "field_type"
    FIELD_UNKNOWN = "field_unknown"
    FIELD_TOO_LONG = "field_too_long"
    FIELD_VALUE = "field_value"
    VERSION_UNKNOWN = "version_unknown"
    OWN_THING = "own_thing"
    TIME_AHEAD = "time_ahead"
    # a record on the topic
    BLOCK_TOO_LONG = "block_too_long"
    PARTITION_WRONG = "partition_wrong"
    # the system
    BROKER_UNAVAILABLE = "broker_unavailable"
    QUEUE_FULL = "queue_full"
    DRAINING = "draining"
    BODIES_FULL = "bodies_full"
    CONNECTIONS_FULL = "connections_full"


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Refused input, one per record on the topic ``rejected``. ``raw`` is base64 on the wire.

    ``raw`` holds the offending item's bytes, or the body's beginning when the body as a whole was
    refused; ``item`` is its index in the request; ``member_id`` is empty when nobody proved who they are.
    ``cut`` says that there was more of it. Tokens are never in it.
    """

    reason: str
    detail: str
    rejected_at: int
    raw: bytes
    item: int | None = None
    field: str = ""
    member_id: str = ""
    site_id: str = ""
    cut: bool = False


_1970: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
#: The months all of whose milliseconds are times.
MONTH_FIRST: Final = 197001
MONTH_LAST: Final = 224808
_RECEIVED: Final = re.compile(rb'"received_at":([0-9]+)')
_encoder = msgspec.json.Encoder()
_rejection_decoder = msgspec.json.Decoder(Rejection)
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


def encode_rejection(rejection: Rejection) -> bytes:
    """The value of one record on the topic ``rejected``."""
    return _encoder.encode(rejection)


def decode_rejection(value: bytes) -> Rejection:
    """Read one rejection back. Raises ``msgspec.DecodeError``, ``UnicodeDecodeError`` or ``RecursionError``."""
    return _rejection_decoder.decode(value)


def true_time_ms(clicked_at: int, sent_at: int | None, received_at: int, skew_min_ms: int = SKEW_MIN_MS) -> int:
    """When a click was made, in ms, whatever the client's clock says; never after its receipt.

    The client's clock is off by what lies between its ``sent_at`` and our ``received_at``. Below ``skew_min_ms``
    that is taken for the way of the request, so that each retry of a click has the same true time.
    """
    skew = 0 if sent_at is None else received_at - sent_at
    at = clicked_at + skew if abs(skew) >= skew_min_ms else clicked_at
    return max(0, min(at, received_at))


def identifier(field: str, value: str) -> str:
    """The value of a field that names a member, a creator or a site. Raises ``ValueError`` with a sentence."""
    if IDENTIFIER.fullmatch(value) is None:
        wrong = next((char for char in value if not "!" <= char <= "~"), "")
        which = f": U+{ord(wrong):04X} is none" if wrong else ""
        raise ValueError(f"{field} {value[: ID_LENGTH_MAX + 1]!r} is not {IDENTIFIER_RULE}{which}")
    return value


def parse_time(sent: int | str) -> int:
    """Milliseconds since 1970, those that have begun, from a number of them or from RFC 3339. Raises ``ValueError``."""
    at_ms = sent if isinstance(sent, int) and not isinstance(sent, bool) else -1
    if isinstance(sent, str) and len(sent) <= 40:
        try:
            at = datetime.fromisoformat(sent)
            at_ms = -1 if at.tzinfo is None else (at - _1970) // timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            at_ms = -1
    if not 0 <= at_ms < TIME_END_MS:
        raise ValueError("RFC 3339 with a zone, or milliseconds, from 1970 to 2248")
    return at_ms


def parse_month(text: str) -> int:
    """``2026-11`` as 202611. Raises ``ValueError`` with a sentence."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a month: write it as YYYY-MM, such as 2026-11")
    month = int(found[1]) * 100 + int(found[2])
    if not MONTH_FIRST <= month <= MONTH_LAST:
        raise ValueError(f"{text} lies outside of {month_text(MONTH_FIRST)} to {month_text(MONTH_LAST)}")
    return month


def month_text(month: int) -> str:
    """202611 as ``2026-11``."""
    return f"{month // 100}-{month % 100:02}"


def month_of(at_ms: int) -> int:
    """The month of a time in UTC, as 202611 for November 2026."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.year * 100 + at.month


def month_start_ms(month: int) -> int:
    """The first millisecond of a month such as 202611."""
    return int(datetime(month // 100, month % 100, 1, tzinfo=UTC).timestamp()) * 1000


def month_after(month: int) -> int:
    """202612 is followed by 202701."""
    return month + 1 if month % 100 < 12 else month + 89


def month_before(month: int) -> int:
    """202701 follows 202612."""
    return month - 1 if month % 100 > 1 else month - 89


def thing_id(creator_id: str, canonical_thing: str) -> str:
    """The 128-bit name of a creator's thing, as 32 hexadecimal digits: BLAKE2b of both, NUL between."""
    text = f"{creator_id}\0{canonical_thing}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def position(epoch: int, offset: int, index: int) -> int:
    """Where a click stands in its partition's log, as one rising UInt64.

    8 bits of log epoch (a topic that was made anew starts a new one), 40 bits of
    record offset, 16 bits of index in the block.
    """
    return epoch << 56 | offset << 16 | index
