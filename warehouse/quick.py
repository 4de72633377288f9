"""Button counters, answered from memory before anything else looks at the request.

A popular page asks for the same counters thousands of times a second. The answer to each address
is kept whole for a moment, so that the next reader costs one look into a dictionary and no routing,
no parameters and no encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH: Final = "/v1/counters"
#: Answers kept: 100 counters are 5 kB, so this is 50 MB at the very worst.
_KEPT_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Answer:
    #: from here on one reader has it made anew, while it still answers the others
    again_s: float
    until_s: float
    etag: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Route:
    """What the metrics call a request that no router has seen."""

    path_format: str = PATH


class QuickCounters:
    """Keeps 200 answers of ``PATH`` by query for ``ttl_s``; passes on everything else.

    When half of that is over, one request at a time is passed on and the others are still answered from
    memory: pages that grew old together would otherwise be made anew by all their readers at once.
    """

    def __init__(self, app: ASGIApp, ttl_s: float, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._answers: dict[bytes, _Answer] = {}
        #: being made anew
        self._asked: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, or pass on and remember."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET" or self._ttl_s <= 0:
            await self._app(scope, receive, send)
            return
        query: bytes = scope["query_string"]
        kept = self._answers.get(query)
        now_s = self._monotonic()
        if kept is not None and now_s < kept.until_s and (now_s < kept.again_s or query in self._asked):
            scope["route"] = _Route()
            await _send(kept, scope, send)
            return
        self._asked.add(query)
        try:
            await self._app(scope, receive, self._remembering(query, send))
        finally:
            self._asked.discard(query)

    def _remembering(self, query: bytes, send: Send) -> Send:
        asked_s = self._monotonic()
        start: Message = {"status": 0}

        async def remembered(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            elif start["status"] == 200 and not message.get("more_body"):
                self._keep(query, asked_s, start["headers"], message["body"])
            await send(message)

        return remembered

    def _keep(self, query: bytes, asked_s: float, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if len(self._answers) >= _KEPT_MAX:
            self._answers.clear()
        etag = next((value for name, value in headers if name == b"etag"), b"")
        self._answers[query] = _Answer(asked_s + self._ttl_s / 2, asked_s + self._ttl_s, etag, headers, body)


async def _send(kept: _Answer, scope: Scope, send: Send) -> None:
    asked = next((value for name, value in scope["headers"] if name == b"if-none-match"), None)
    if asked is not None and kept.etag in asked:
        headers = [(name, value) for name, value in kept.headers if not name.startswith(b"content-")]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": kept.headers})
    await send({"type": "http.response.body", "body": kept.body})
