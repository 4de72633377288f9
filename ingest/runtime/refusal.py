"""Refusals: the HTTP status of each reason, and the body of an error (RFC 9457 with `reason`)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from ingest.contract.rejection import Reason


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why one item, or a whole request (``item`` is None), was refused."""

    reason: Reason
    detail: str
    item: int | None = None
    field: str = ""


class Refused(Exception):
    """The whole request is refused."""

    def __init__(self, reason: Reason, detail: str, *, retry_after_s: int = 2) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)
        self.retry_after_s = retry_after_s


STATUS: Final[dict[Reason, int]] = {
    Reason.BODY_TOO_LARGE: 413,
    Reason.BATCH_TOO_LARGE: 413,
    Reason.BODY_EMPTY: 400,
    Reason.BODY_TIMEOUT: 408,
    Reason.ENCODING_UNSUPPORTED: 415,
    Reason.ENCODING_BROKEN: 400,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.HTTP_MALFORMED: 400,
    Reason.HEAD_TOO_LARGE: 431,
    Reason.HEAD_TIMEOUT: 408,
    Reason.TOKEN_MISSING: 401,
    Reason.TOKEN_INVALID: 401,
    Reason.TOKEN_EXPIRED: 401,
    Reason.TOKEN_EARLY: 401,
    Reason.TOKEN_PURPOSE: 403,
    Reason.TOKEN_SCOPE: 403,
    Reason.MEMBER_MISMATCH: 403,
    Reason.SITE_UNKNOWN: 403,
    Reason.ORIGIN_FORBIDDEN: 403,
    Reason.RATE_LIMITED: 429,
    Reason.JSON_MALFORMED: 400,
    Reason.NOT_AN_OBJECT: 422,
    Reason.FIELD_MISSING: 422,
    Reason.FIELD_TYPE: 422,
    Reason.FIELD_UNKNOWN: 422,
    Reason.FIELD_TOO_LONG: 422,
    Reason.FIELD_VALUE: 422,
    Reason.VERSION_UNKNOWN: 422,
    Reason.OWN_THING: 422,
    Reason.BROKER_UNAVAILABLE: 503,
    Reason.QUEUE_FULL: 503,
    Reason.DRAINING: 503,
    Reason.BODIES_FULL: 503,
    Reason.CONNECTIONS_FULL: 503,
}
#: The client should retry unchanged, with the same click id.
RETRYABLE: Final = frozenset(reason for reason, status in STATUS.items() if status in (408, 429, 503))
_encoder = msgspec.json.Encoder()


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of every error."""

    type: str
    title: str
    status: int
    reason: Reason
    detail: str
    item: int | None = None
    field: str = ""
    refused: Sequence[Refusal] = ()


def problem(refused: Sequence[Refusal]) -> tuple[int, bytes]:
    """HTTP status and body (RFC 9457) for a request of which no click was accepted.

    The first retryable refusal decides the status, or else the first one. A single refusal is not repeated in the list.
    """
    first = next((refusal for refusal in refused if refusal.reason in RETRYABLE), refused[0])
    status = STATUS[first.reason]
    body = Problem(
        type=f"urn:flattr:reason:{first.reason}",
        title=HTTPStatus(status).phrase,
        status=status,
        reason=first.reason,
        detail=first.detail,
        item=first.item,
        field=first.field,
        refused=refused if len(refused) > 1 else (),
    )
    return status, _encoder.encode(body)
