"""Cursors of lists by flattrs: where the next page starts, opaque to the client."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from http import HTTPStatus

import msgspec

from warehouse.api.problems import Problem, ReadReason


def encode(values: tuple[int, str]) -> str:
    """The (flattrs, id) of a page's last row, as text for an address."""
    return urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def decode(text: str) -> tuple[int, str]:
    """The (flattrs, id) again. Raises ``Problem`` 422 when it is not one of this list's."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return msgspec.json.decode(urlsafe_b64decode(padded.encode("ascii")), type=tuple[int, str])
    except (ValueError, msgspec.DecodeError):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ReadReason.CURSOR_MALFORMED,
            "this cursor is not from this list: start without one, then take `next` of each page",
        ) from None
