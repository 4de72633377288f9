"""Cross-origin requests (CORS): which answers a page of another site may read.

Everything that is public or needs a key or a token in the request, errors included. Cookies open nothing here: a
browser that was told `*` gives a page no answer to a request that carried any. Where the API runs without keys, for
this machine alone or behind a gateway, what is not public is closed to pages, since any page could ask for it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_API: Final = "/v1/"
#: Open without a key; a member's door takes only the member's token.
_PUBLIC: Final = ("/v1/counters", "/v1/receipts/", "/v1/live", "/v1/me/")
_OPEN: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag, Retry-After",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_OPEN_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in _OPEN.items()]
_PREFLIGHT: Final = {
    **_OPEN,
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, If-None-Match, Last-Event-ID, Content-Type",
    "Access-Control-Max-Age": "86400",
}


class CrossOrigin:
    """Answers preflights and adds the headers. ``guarded``: whether what is not public needs a key."""

    def __init__(self, app: ASGIApp, *, guarded: bool) -> None:
        self._app = app
        self._open = (_API,) if guarded else _PUBLIC

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on and open the answer."""
        if scope["type"] != "http" or not scope["path"].startswith(self._open):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await Response(status_code=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)(scope, receive, send)
            return

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A copy, because cached answers share their list.
                message = {**message, "headers": [*message.get("headers", ()), *_OPEN_RAW]}
            await send(message)

        await self._app(scope, receive, opened)
