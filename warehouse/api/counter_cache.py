"""Button counters, answered from memory before anything else looks at the request.

A popular page asks for the same counters thousands of times a second. The answer to each is kept whole
for a moment, so that the next reader costs two looks into dictionaries and no routing, no parameters and
no encoding. Kept is what is asked for and not how it is written: parameters in another order, other
encodings of a character, parameters that mean nothing all find the same answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from warehouse.api import problems
from warehouse.api.bounded_cache import BoundedCache

PATH: Final = "/v1/counters"
#: Longer ones are read anew each time: a page's buttons take less, and an attacker's memory is not ours.
_SPELLING_MAX_BYTES: Final = 4096
#: How long it is remembered what a query asks for: aliases, on which that hangs, are as old at most.
_SPELLING_TTL_S: Final = 1
#: Spellings get this part of the memory that answers get.
_SPELLINGS_PART: Final = 4
#: An answer's headers and its parts.
_ANSWER_BYTES: Final = 1500

#: (month, None for the current one; thing ids in the order of the answer)
Asked = tuple[int | None, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Answer:
    etag: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Route:
    """What the metrics call a request that no router has seen."""

    path_format: str = PATH


_ROUTE: Final = _Route()


class CounterCache:
    """Answers GET of ``PATH`` and keeps each answer for ``ttl_s``, within ``bytes_max``; passes on everything else.

    ``understand`` says what a query asks for, None for what the ordinary way shall judge, which alone knows how to
    refuse; ``answer`` makes the answer for a client of some address. When half of an answer's time is over, one
    request at a time has it made anew and the others are still answered from memory: pages that grew old together
    would otherwise be made anew by all their readers at once.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - two functions of the route, and three bounds
        self,
        app: ASGIApp,
        understand: Callable[[bytes], Asked | None],
        answer: Callable[[Asked, Scope], Awaitable[Response]],
        ttl_s: float,
        bytes_max: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._app = app
        self._understand = understand
        self._answer = answer
        self._ttl_s = ttl_s
        self._half_s = ttl_s / 2
        self._monotonic = monotonic
        self._answers: BoundedCache[Asked, _Answer] = BoundedCache(
            ttl_s=ttl_s, bytes_max=bytes_max, monotonic=monotonic
        )
        self._spellings: BoundedCache[bytes, Asked] = BoundedCache(
            ttl_s=_SPELLING_TTL_S, bytes_max=bytes_max // _SPELLINGS_PART, monotonic=monotonic
        )
        #: being made anew
        self._making: set[Asked] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, make the answer and remember it, or pass on."""
        is_counter = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET"
        now_s = self._monotonic()
        asked = self._asked(scope["query_string"], now_s) if is_counter else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        cached = self._answers.peek(asked)
        if cached is not None:
            age_s = now_s - cached[0]
            if age_s < self._half_s or (age_s < self._ttl_s and asked in self._making):
                await _send(cached[2], scope, send)
                return
        try:
            answer = await self._made(asked, scope)
        except problems.ANSWERED as error:
            await problems.answer_to(error)(scope, receive, send)
            return
        await _send(answer, scope, send)

    def _asked(self, query: bytes, now_s: float) -> Asked | None:
        known = self._spellings.peek(query)
        if known is not None and now_s - known[0] < _SPELLING_TTL_S:
            return known[2]
        asked = self._understand(query)
        if asked is not None and len(query) <= _SPELLING_MAX_BYTES:
            self._spellings.put(query, asked, at_s=now_s, weight_bytes=len(query) + _weight(asked))
        return asked

    async def _made(self, asked: Asked, scope: Scope) -> _Answer:
        at_s = self._monotonic()
        self._making.add(asked)
        try:
            response = await self._answer(asked, scope)
        finally:
            self._making.discard(asked)
        etag = next((value for name, value in response.raw_headers if name == b"etag"), b"")
        body = bytes(response.body)
        made = _Answer(etag, response.raw_headers, body)
        self._answers.put(asked, made, at_s=at_s, weight_bytes=len(body) + _weight(asked) + _ANSWER_BYTES)
        return made


def _weight(asked: Asked) -> int:
    """Of the tuple and its ids, each a string of 32 characters."""
    return 150 + 90 * len(asked[1])


async def _send(cached: _Answer, scope: Scope, send: Send) -> None:
    asked = next((value for name, value in scope["headers"] if name == b"if-none-match"), None)
    if asked is not None and (asked.strip() == b"*" or cached.etag in asked):
        headers = [(name, value) for name, value in cached.headers if not name.startswith(b"content-")]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": cached.headers})
    await send({"type": "http.response.body", "body": cached.body})
