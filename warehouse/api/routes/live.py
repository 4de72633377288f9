"""The live stream: server-sent events of absolute values, resumable by event id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from warehouse.api import auth
from warehouse.api.listener_limit import ListenerLimit
from warehouse.api.live_board import PULSE, TOP, Board, creator_topic
from warehouse.api.problems import RESPONSES, ReadReason, answer, unavailable
from warehouse.api.query_runner import Runner
from warehouse.api.request_guard import HEADERS_ONLY
from warehouse.api.shapes import CreatorId, moment
from warehouse.keys import Role

_EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "server-sent events; `id` is for Last-Event-ID, `data` is JSON",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
router = APIRouter(prefix="/v1", tags=["live"], responses=RESPONSES)

#: A client that reads nothing for this long is disconnected; it can resume with Last-Event-ID.
_SEND_TIMEOUT_S: Final = 30
_PING_S: Final = 15
#: Long enough to open a stream with it, and too short to be worth finding in a log.
_TOKEN_VALID_MS: Final = 60_000


async def board_of(request: Request) -> Board:
    """The app's board."""
    return cast("Board", request.app.state.board)


Seen = Annotated[str | None, Header(alias="Last-Event-ID", description="sent by EventSource when it reconnects")]
SeenInQuery = Annotated[
    str | None, Query(alias="last_event_id", description="the same, for clients that cannot set headers")
]


async def seen_number(seen: Seen = None, seen_in_query: SeenInQuery = None) -> int:
    """The number of the last event that the client saw; 0 if it is missing or not a number."""
    text = seen or seen_in_query or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 17 else 0


LastSeen = Annotated[int, Depends(seen_number)]
TheBoard = Annotated[Board, Depends(board_of)]


class _Stream(EventSourceResponse):
    """Events for a client that gets a seat, otherwise a 503. The seat is held exactly as long as the answer lasts."""

    def __init__(
        self, seats: ListenerLimit, address: str | None, board: Board, topics: set[str], last_seen: int
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(board, topics, last_seen), headers=headers, ping=_PING_S, send_timeout=_SEND_TIMEOUT_S)
        self._seats = seats
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client leaves, or a 503; nothing but the headers in answer to a HEAD."""
        if not self._seats.free(self._address):
            refused = unavailable(
                ReadReason.QUEUE_FULL, "too many clients listen already, or too many from this address"
            )
            await answer(refused)(scope, receive, send)
            return
        if HEADERS_ONLY in scope:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body"})
            return
        with self._seats.taken(self._address), suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)


async def _events(board: Board, topics: set[str], last_seen: int) -> AsyncIterator[bytes]:
    with board.listen(topics, last_seen) as mailbox:
        yield b"retry: 2000\n\n"
        async for chunk in mailbox.chunks():
            yield chunk


async def seat_of(request: Request, reads: Runner) -> str | None:
    """The address whose share of the seats a client takes; None for a client with a key."""
    return None if auth.known(request, reads) else reads.address_of(request.scope)


Seat = Annotated[str | None, Depends(seat_of)]


@router.get(
    "/live", summary="Totals and top lists as they change", response_class=EventSourceResponse, responses=_EVENTS
)
async def live(reads: Runner, board: TheBoard, seat: Seat, last_seen: LastSeen) -> EventSourceResponse:
    """Public. Events `pulse` (once a second) and `top` (when it has changed)."""
    return _Stream(reads.seats, seat, board, {PULSE, TOP}, last_seen)


Token = Annotated[
    str | None, Query(alias=auth.STREAM_PARAMETER, max_length=1024, description="from live-token, instead of a key")
]


class StreamToken(BaseModel):
    """What opens one creator's stream for a minute: in an address, where a key must not stand."""

    token: str
    expires_at: datetime


@router.get(
    "/creators/{creator_id:path}/live-token",
    summary="A short-lived token for a creator's stream",
    dependencies=[auth.needs(Role.DASHBOARD, public=True)],
    responses=auth.RESPONSES,
)
async def live_token(request: Request, response: Response, reads: Runner, creator_id: CreatorId) -> StreamToken:
    """For EventSource, which sends no headers: `/v1/creators/{id}/live?token=...`.

    Get a new one when the stream closes for good.
    """
    response.headers["Cache-Control"] = "no-store"
    ends_ms = reads.clock() + _TOKEN_VALID_MS
    token = auth.stream_token(request, reads, creator_id, ends_ms)
    return StreamToken(token=token, expires_at=moment(ends_ms))  # type: ignore[arg-type]  # a time that is given


@router.get(
    "/creators/{creator_id:path}/live",
    summary="A creator's count as it changes",
    response_class=EventSourceResponse,
    dependencies=[auth.needs(Role.DASHBOARD, public=True, stream=True)],
    responses={**_EVENTS, **auth.RESPONSES},
)
async def creator_live(
    reads: Runner, board: TheBoard, creator_id: CreatorId, seat: Seat, last_seen: LastSeen, _token: Token = None
) -> EventSourceResponse:
    """Event `creator`: first the current count, then each new one within a second of being counted."""
    return _Stream(reads.seats, seat, board, {creator_topic(creator_id)}, last_seen)
