"""Who may read what: the role that a route needs against the key that a request brings."""

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
    401: {"model": ProblemBody, "description": "No key, or one that is not known."},
    403: {"model": ProblemBody, "description": "A key of another role."},
}


def presented(request: Request) -> str | None:
    """The key in the header, else in the cookie that the pages use."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return secret.strip()
    return request.cookies.get(COOKIE)


def check(request: Request, reads: QueryRunner, needed: Role) -> Key | None:
    """The key that opens this; None where no keys are set up. Raises ``Problem`` 401 or 403."""
    if reads.keys is None:
        return None
    secret = presented(request)
    challenge = {"WWW-Authenticate": 'Bearer realm="flattr"'}
    if secret is None:
        detail = f"this needs an API key of the role {needed}: Authorization: Bearer flk_..."
        raise Problem(HTTPStatus.UNAUTHORIZED, ReadReason.KEY_MISSING, detail, headers=challenge)
    key = reads.keys.holder(secret)
    if key is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, ReadReason.KEY_UNKNOWN, "this API key is not known", headers=challenge)
    if not key.role.may(needed):
        detail = f"the key {key.name!r} has the role {key.role}; this needs {needed}"
        raise Problem(HTTPStatus.FORBIDDEN, ReadReason.ROLE_MISSING, detail)
    return key


def known(request: Request, reads: QueryRunner) -> bool:
    """Whether a request brings a key that is known, of any role, where there are keys."""
    secret = None if reads.keys is None else presented(request)
    return reads.keys is not None and secret is not None and reads.keys.holder(secret) is not None


@cache
def checker(role: Role) -> Callable[..., Awaitable[Key | None]]:
    """The dependency that asks for a role: always the same one, so that a route can tell its role."""

    async def checked(request: Request) -> Key | None:
        return check(request, runner_of(request), role)

    return checked


def needs(role: Role) -> Any:  # noqa: ANN401 - FastAPI's marker of a dependency has no public type
    """For ``dependencies=`` of a route: it answers to keys of this role."""
    return Depends(checker(role))


def role_of(route: APIRoute) -> Role | None:
    """The role that a route asks for; None when it is public."""
    roles = {checker(role): role for role in Role}
    return next((roles[one.dependency] for one in route.dependencies if one.dependency in roles), None)
