"""Checks on every request before routing."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warehouse.api import problems
from warehouse.api.problems import Problem, ReadReason

#: Room for the longest valid query: a thing of 2,048 characters, each of four bytes percent-encoded (%F0%9F%92%B8).
QUERY_MAX_BYTES: Final = 32 * 1024
PATH_MAX_BYTES: Final = 4 * 1024
#: Set in the scope of a HEAD, for answers without an end: they must leave after their headers.
HEADERS_ONLY: Final = "flattr.headers_only"


class RequestGuard:
    """Refuses URLs longer than any valid one, and answers HEAD like GET; the server drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif len(scope["query_string"]) > QUERY_MAX_BYTES or len(scope["path"]) > PATH_MAX_BYTES:
            await problems.answer(_TOO_LONG)(scope, receive, send)
        elif scope["method"] == "HEAD":
            await self._app_as_get(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _app_as_get(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A copy, because the server must still see HEAD in its own scope to send no body.
        asked: Scope = {**scope, "method": "GET", HEADERS_ONLY: True}

        async def told(message: Message) -> None:
            scope["route"] = asked.get("route")  # for the metrics
            await send(message)

        await self._app(asked, receive, told)


_TOO_LONG: Final = Problem(
    HTTPStatus.REQUEST_URI_TOO_LONG,
    ReadReason.ADDRESS_TOO_LONG,
    f"at most {PATH_MAX_BYTES} bytes of path and {QUERY_MAX_BYTES} of query",
)
