"""Authorisation: the role that a route needs, compared with the key in the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from warehouse.api.problems import Problem, ProblemBody, ReadReason
from warehouse.api.query_runner import QueryRunner, runner_of
from warehouse.keys import Key, Role

COOKIE: Final = "flattr_key"
#: For ``responses=`` of routes that need a key.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": ProblemBody, "description": "No API key, or an unknown one."},
    403: {"model": ProblemBody, "description": "The key lacks the role."},
}


def presented(request: Request) -> str | None:
    """The key from the Authorization header, or else from the cookie that the pages use."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return secret.strip()
    return request.cookies.get(COOKIE)


def check(request: Request, reads: QueryRunner, needed: Role) -> Key | None:
    """The request's key; None if the service runs without keys. Raises ``Problem`` 401 or 403."""
    if reads.keys is None:
        return None
    secret = presented(request)
    challenge = {"WWW-Authenticate": 'Bearer realm="flattr"'}
    if secret is None:
        detail = f"this needs an API key with the role {needed}: send Authorization: Bearer flk_..."
        raise Problem(HTTPStatus.UNAUTHORIZED, ReadReason.KEY_MISSING, detail, headers=challenge)
    key = reads.keys.holder(secret)
    if key is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, ReadReason.KEY_UNKNOWN, "this API key is unknown", headers=challenge)
    if not key.role.may(needed):
        detail = f"the key {key.name!r} has the role {key.role}, but this needs {needed}"
        raise Problem(HTTPStatus.FORBIDDEN, ReadReason.ROLE_MISSING, detail)
    return key


def known(request: Request, reads: QueryRunner) -> bool:
    """Whether the service has keys and the request brings a valid one, of any role."""
    secret = None if reads.keys is None else presented(request)
    return reads.keys is not None and secret is not None and reads.keys.holder(secret) is not None


@cache
def checker(role: Role) -> Callable[..., Awaitable[Key | None]]:
    """The dependency that checks a role. Cached, so that ``role_of`` can recognise it."""

    async def checked(request: Request) -> Key | None:
        return check(request, runner_of(request), role)

    return checked


def needs(role: Role) -> Any:  # noqa: ANN401 - FastAPI's marker of a dependency has no public type
    """For ``dependencies=`` of a route that needs this role."""
    return Depends(checker(role))


def role_of(route: APIRoute) -> Role | None:
    """The role that a route needs; None if it is public."""
    roles = {checker(role): role for role in Role}
    return next((roles[one.dependency] for one in route.dependencies if one.dependency in roles), None)
