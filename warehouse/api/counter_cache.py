"""Button counters, answered from memory before routing.

A popular page requests the same counters thousands of times a second. The whole answer is cached briefly, so that the
next request costs two look-ups and no routing, parsing or encoding. The key is the meaning of the request, not its
spelling: parameters in another order or encoding find the same answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from warehouse.api import problems
from warehouse.api.cache import BoundedCache, CoalescingCache
from warehouse.api.conditional import revalidated

PATH: Final = "/v1/counters"
#: Longer query strings are parsed each time: a page's buttons need less, and attackers must not fill the memory.
_SPELLING_MAX_BYTES: Final = 4096
#: How long the meaning of a query string is cached. It depends on the alias table, which thus takes effect this late.
_SPELLING_TTL_S: Final = 1
#: Query strings get one part in this many of the memory for answers.
_SPELLINGS_SHARE: Final = 4
#: Overhead of an answer: its object and headers.
_ANSWER_BYTES: Final = 1500


@dataclass(frozen=True, slots=True)
class Asked:
    """The meaning of a request: a month, None for the current one, and thing ids in the order of the answer.

    ``by_address``: whether the answer lists the ids too, in that order, for a client that knows only its addresses.
    """

    month: int | None
    thing_ids: tuple[str, ...]
    by_address: bool


@dataclass(frozen=True, slots=True)
class _Route:
    """Names the route for the metrics, since no router sees the request."""

    path_format: str = PATH


_ROUTE: Final = _Route()


class CounterCache:
    """Answers GET of ``PATH``, caching answers for ``ttl_s`` within ``bytes_max``; passes on everything else.

    Only while counters are ``busy``, an answer is used that is older than ``fresh_s``.

    ``understand`` parses a query string, and returns None for what the ordinary route must refuse. ``answer`` makes
    the answer for a client's address, as ``address_of`` returns it.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - three functions of the route, and three bounds
        self,
        app: ASGIApp,
        understand: Callable[[bytes], Asked | None],
        answer: Callable[[Asked, str], Awaitable[Response]],
        address_of: Callable[[Scope], str],
        ttl_s: float,
        fresh_s: float,
        busy: Callable[[], bool],
        bytes_max: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._app = app
        self._understand = understand
        self._answer = answer
        self._address_of = address_of
        self._monotonic = monotonic
        # Refresh early, so that expiring answers are not all recomputed at once by their readers.
        self._answers: CoalescingCache[Asked, Response] = CoalescingCache(
            ttl_s=ttl_s, refresh_after_s=ttl_s / 2, fresh_s=fresh_s, busy=busy, bytes_max=bytes_max,
            monotonic=monotonic,
            weigh=lambda asked, answer: len(answer.body) + _weight(asked) + _ANSWER_BYTES,
        )  # fmt: skip
        self._spellings: BoundedCache[bytes, Asked] = BoundedCache(
            ttl_s=_SPELLING_TTL_S, bytes_max=bytes_max // _SPELLINGS_SHARE, monotonic=monotonic
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from the cache, make and cache the answer, or pass the request on."""
        is_counter = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET"
        asked = self._asked(scope["query_string"]) if is_counter else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        address = self._address_of(scope)
        try:
            answer = await self._answers.get(asked, lambda: self._answer(asked, address), address)
            answer = revalidated(answer, Headers(scope=scope))
        except problems.ANSWERED as error:
            answer = problems.answer_to(error)
        await answer(scope, receive, send)

    def _asked(self, query: bytes) -> Asked | None:
        known = self._spellings.get(query)
        if known is not None:
            return known[1]
        asked = self._understand(query)
        if asked is not None and len(query) <= _SPELLING_MAX_BYTES:
            at_s = self._monotonic()
            self._spellings.put(query, asked, at_s=at_s, weight_bytes=len(query) + _weight(asked))
        return asked


def _weight(asked: Asked) -> int:
    """Size in bytes of the request and its ids, strings of 32 characters."""
    return 200 + 90 * len(asked.thing_ids)
