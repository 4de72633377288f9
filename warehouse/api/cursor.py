"""Cursors of lists: where the next page starts, opaque to clients."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta
from msgspec.json import Decoder

from warehouse.api.problems import Problem, ReadReason

T = TypeVar("T")
#: (flattrs, id), of lists by flattrs
RANK: Final = Decoder(tuple[Annotated[int, Meta(ge=0, le=2**63 - 1)], str])
#: (month, time in ms, thing id), of lists by time
PLACE: Final = Decoder(
    tuple[
        Annotated[int, Meta(ge=0, le=2**32 - 1)],
        Annotated[int, Meta(ge=-(2**62), le=2**62)],
        Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")],
    ]
)
#: (creator, thing id in capitals), of a member's subscriptions
SUBSCRIPTION: Final = Decoder(tuple[str, Annotated[str, Meta(pattern=r"^[0-9A-F]{32}\Z")]])


def encode(values: tuple[object, ...]) -> str:
    """Encode what places a page's last row in its list, for a URL."""
    return urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def decode(text: str, kind: Decoder[T]) -> T:
    """Decode a cursor of that kind. Raises ``Problem`` 422 if it is malformed."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return kind.decode(urlsafe_b64decode(padded.encode("ascii")))
    except (ValueError, msgspec.DecodeError):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ReadReason.CURSOR_MALFORMED,
            "this cursor is not from this list: start without a cursor, then pass on `next` of each page",
        ) from None
