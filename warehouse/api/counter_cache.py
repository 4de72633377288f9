"""Button counters, answered from memory before anything else looks at the request.

A popular page asks for the same counters thousands of times a second. The whole answer is cached for a moment, so
that the next reader costs two look-ups and no routing, parameters or encoding. The key is what is asked for and not
how it is written: parameters in another order, other encodings of a character, parameters that mean nothing all
find the same answer.
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
#: Longer ones are parsed anew each time: a page's buttons take less, and an attacker's memory is not ours.
_SPELLING_MAX_BYTES: Final = 4096
#: How long it is remembered what a query asks for: aliases, on which that depends, are as old at most.
_SPELLING_TTL_S: Final = 1
#: Spellings get this share of the memory that answers get.
_SPELLINGS_SHARE: Final = 4
#: An answer's object and headers.
_ANSWER_BYTES: Final = 1500

#: (month, None for the current one; thing ids in the order of the answer)
Asked = tuple[int | None, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Route:
    """What the metrics call a request that no router has seen."""

    path_format: str = PATH


_ROUTE: Final = _Route()


class CounterCache:
    """Answers GET of ``PATH`` and caches each answer for ``ttl_s``, within ``bytes_max``; passes on everything else.

    ``understand`` says what a query asks for, None for what the ordinary route shall judge, which alone knows how to
    refuse; ``answer`` makes the answer for a client of some address, which ``address_of`` tells.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - three functions of the route, and three bounds
        self,
        app: ASGIApp,
        understand: Callable[[bytes], Asked | None],
        answer: Callable[[Asked, str], Awaitable[Response]],
        address_of: Callable[[Scope], str],
        ttl_s: float,
        bytes_max: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._app = app
        self._understand = understand
        self._answer = answer
        self._address_of = address_of
        self._monotonic = monotonic
        # Pages that grew old at once would otherwise be made anew by all their readers at once.
        self._answers: CoalescingCache[Asked, Response] = CoalescingCache(
            ttl_s=ttl_s, refresh_after_s=ttl_s / 2, bytes_max=bytes_max, monotonic=monotonic,
            weigh=lambda asked, answer: len(answer.body) + _weight(asked) + _ANSWER_BYTES,
        )  # fmt: skip
        self._spellings: BoundedCache[bytes, Asked] = BoundedCache(
            ttl_s=_SPELLING_TTL_S, bytes_max=bytes_max // _SPELLINGS_SHARE, monotonic=monotonic
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, make the answer and remember it, or pass on."""
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
    """Of the tuple and its ids, each a string of 32 characters."""
    return 150 + 90 * len(asked[1])
