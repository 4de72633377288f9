"""Routes that are asked for all day, answered without the framework's way to them.

Routing, dependencies and parameters cost more than the count itself. So a request that is well formed and may be
answered goes straight to the function of its route; everything else takes the ordinary way, which alone knows how to
refuse. Address, parameter's type, role and function are all taken from the route, so that nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from re import Pattern
from typing import Final, get_type_hints

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.types import ASGIApp, Receive, Scope, Send

from warehouse.api import auth, problems
from warehouse.api.problems import Problem
from warehouse.api.query_runner import QueryRunner
from warehouse.api.shapes import month_or_current

_MONTH: Final = b"month="


@dataclass(frozen=True, slots=True)
class _Direct:
    """What a route of one identifier and a month is made of."""

    route: APIRoute
    pattern: Pattern[str]
    name: str
    identifier: TypeAdapter[str]
    need: auth.Need | None
    answer: Callable[[QueryRunner, str, int], Awaitable[Response]]


class DirectRoutes:
    """Answers GET for the routes of ``router`` and passes on everything else.

    Each of those is a function of (reads, identifier, month) that returns a ``Response``.
    """

    def __init__(self, app: ASGIApp, reads: QueryRunner, router: APIRouter) -> None:
        self._app = app
        self._reads = reads
        self._routes = [_direct(route) for route in router.routes if isinstance(route, APIRoute)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        found = self._find(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        direct, identifier, month = found
        scope["route"] = direct.route
        try:
            response = await direct.answer(self._reads, identifier, await self._reads.present(month))
        except problems.ANSWERED as error:
            response = problems.answer_to(error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[_Direct, str, int] | None:
        """The route, its identifier and month; None for what the ordinary way shall judge."""
        for direct in self._routes:
            at = direct.pattern.match(scope["path"])
            if at is not None:
                try:
                    identifier = direct.identifier.validate_python(at[1])
                    month = month_or_current(self._reads, _month_text(scope["query_string"]))
                    if direct.need is not None:
                        auth.check(Request(scope), self._reads, direct.need, {direct.name: identifier})
                except (Problem, ValueError):
                    return None
                return direct, identifier, month
        return None


def _direct(route: APIRoute) -> _Direct:
    (name,) = route.param_convertors
    identifier = TypeAdapter[str](get_type_hints(route.endpoint, include_extras=True)[name])
    return _Direct(route, route.path_regex, name, identifier, auth.need_of(route), route.endpoint)


def _month_text(query: bytes) -> str | None:
    """The parameter ``month`` when nothing else is asked. Raises ``ValueError`` for anything but that."""
    if not query:
        return None
    if not query.startswith(_MONTH):
        raise ValueError(query)
    return query[len(_MONTH) :].decode("ascii")
