"""Why input is refused, and the format of refused input on the topic ``rejected``."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a click was refused. The codes are part of the API and never change their meaning."""

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
    # the caller
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

    ``raw`` holds the refused item's bytes, or the beginning of the body when the whole body was refused, with tokens
    redacted; ``cut`` means that it was truncated. ``item`` is the index in the request. ``member_id`` is empty when
    the caller was not authenticated.
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


_encoder = msgspec.json.Encoder()
_rejection_decoder = msgspec.json.Decoder(Rejection)


def encode_rejection(rejection: Rejection) -> bytes:
    """The value of one record on the topic ``rejected``."""
    return _encoder.encode(rejection)


def decode_rejection(value: bytes) -> Rejection:
    """Decode one rejection. Raises ``msgspec.DecodeError``, ``UnicodeDecodeError`` or ``RecursionError``."""
    return _rejection_decoder.decode(value)
