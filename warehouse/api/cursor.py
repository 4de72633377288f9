"""Cursors of lists by flattrs: where the next page starts, opaque to clients."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from http import HTTPStatus

import msgspec

from warehouse.api.problems import Problem, ReadReason


def encode(values: tuple[int, str]) -> str:
    """Encode the (flattrs, id) of a page's last row for a URL."""
    return urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def decode(text: str) -> tuple[int, str]:
    """Decode a cursor into (flattrs, id). Raises ``Problem`` 422 if it is malformed."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return msgspec.json.decode(urlsafe_b64decode(padded.encode("ascii")), type=tuple[int, str])
    except (ValueError, msgspec.DecodeError):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ReadReason.CURSOR_MALFORMED,
            "this cursor is not from this list: start without a cursor, then pass on `next` of each page",
        ) from None
