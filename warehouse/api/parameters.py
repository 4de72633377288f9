"""Query parameters that a route does not have: named in a 422, because a misspelt one would silently change nothing."""

from __future__ import annotations

from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute

from ingest.contract.thing import is_tracking
from warehouse.api.problems import Problem, ReadReason

_SHOWN_MAX: Final = 40


def names_of(route: APIRoute) -> frozenset[str]:
    """The query parameters of a route and of what it depends on."""

    def walk(dependant: Any) -> frozenset[str]:  # noqa: ANN401 - FastAPI's tree of parameters has no public type
        own = frozenset(field.alias for field in dependant.query_params)
        return own.union(*(walk(one) for one in dependant.dependencies))

    return walk(route.dependant)


async def known_parameters(request: Request) -> None:
    """The dependency of every route that refuses unknown parameters. Raises ``Problem`` 422.

    Pages take what mailers and advertisers add to links to them.
    """
    route = request.scope.get("route")
    if not request.scope["query_string"] or not isinstance(route, APIRoute):
        return
    names = names_of(route)
    for given in request.query_params:
        if given not in names and (route.include_in_schema or not is_tracking(given)):
            shown = given[:_SHOWN_MAX]
            detail = f"there is no parameter {shown!r} here{_hint(shown, sorted(names))}"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ReadReason.PARAMETER_UNKNOWN, detail, parameters=[shown])


def _hint(given: str, names: list[str]) -> str:
    if not names:
        return ": this address takes none"
    near = get_close_matches(given.lower(), names, n=1)
    return f": did you mean {near[0]!r}?" if near else f": it takes {', '.join(names)}"
