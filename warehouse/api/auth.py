"""Authorisation: the role that a route needs, compared with the key in the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import product
from typing import Any, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from ingest.contract.thing import THING_ID
from warehouse.api.problems import Problem, ProblemBody, ReadReason
from warehouse.api.query_runner import STRANGER, QueryRunner, runner_of
from warehouse.api.sessions import Kind
from warehouse.keys import Key, Role

COOKIE: Final = "flattr_session"
#: The parameter in which a stream's address carries its token.
STREAM_PARAMETER: Final = "token"
#: For ``responses=`` of routes that need a key.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": ProblemBody, "description": "No API key, or an unknown one."},
    403: {"model": ProblemBody, "description": "The key lacks the role, or is for one creator, member or site only."},
}


@dataclass(frozen=True, slots=True)
class Need:
    """What a route needs: a role; with ``public`` nothing where the operator allows that (FLATTR_API_PUBLIC).

    ``stream``: a creator's stream, which also opens to a token in its address.
    """

    role: Role
    public: bool = False
    stream: bool = False


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="flattr"'}


def bearer(request: Request) -> str | None:
    """What the Authorization header presents."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret else None


def key_of(request: Request, reads: QueryRunner, needed: Role = Role.DASHBOARD) -> Key | None:
    """The request's key, by its header, or else by the session of the pages; its role is not checked.

    None if the service runs without keys. Raises ``Problem`` 401, which says what role is ``needed``.
    """
    if reads.keys is None:
        return None
    secret = bearer(request)
    if secret is not None:
        key = reads.keys.holder(secret)
    else:
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                ReadReason.KEY_MISSING,
                f"this needs an API key with the role {needed}: send Authorization: Bearer flk_...",
                headers=_CHALLENGE,
            )
        session = reads.sessions.read(Kind.KEY, cookie)
        key = None if session is None else reads.keys.named(session.subject, session.proof)
    if key is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, ReadReason.KEY_UNKNOWN, "this API key is unknown", headers=_CHALLENGE)
    return key


def check(request: Request, reads: QueryRunner, need: Need, named: Mapping[str, str]) -> Key | None:
    """The request's key, if it may read what has this need; None if it needs no key here.

    ``named`` are the parameters of the path (``named_in``), which a key for one creator, member or site must match.
    Raises ``Problem`` 401 or 403.
    """
    if need.stream and STREAM_PARAMETER in request.query_params:
        _check_stream_token(request, reads, named["creator_id"])
        return None
    if need.public and reads.settings.api_public and reads.keys is not None:
        if not known(request, reads):
            STRANGER.set(reads.address_of(request.scope))
        return None
    key = key_of(request, reads, need.role)
    if key is None:
        return None
    if not key.role.may(need.role):
        detail = f"the key {key.name!r} has the role {key.role}, but this needs {need.role}"
        raise Problem(HTTPStatus.FORBIDDEN, ReadReason.ROLE_MISSING, detail)
    if not key.covers(named):
        detail = f"the key {key.name!r} is only for {key.only.replace(':', ' ')}"
        raise Problem(HTTPStatus.FORBIDDEN, ReadReason.SCOPE_MISSING, detail)
    return key


async def named_in(request: Request, reads: QueryRunner) -> Mapping[str, str]:
    """The parameters of the path; for a key of one site also ``site_id``, the site of the thing that they name."""
    named: Mapping[str, str] = request.path_params
    thing_id = named.get("thing_id", "")
    if not THING_ID.fullmatch(thing_id):
        return named
    try:
        key = key_of(request, reads)
    except Problem:
        return named
    site = await reads.site_of(thing_id) if key is not None and key.is_of_site else ""
    return {**named, "site_id": site} if site else named


def stream_token(request: Request, reads: QueryRunner, creator_id: str, ends_ms: int) -> str:
    """A token of one creator's stream, on behalf of the request's key if there is one."""
    key = key_of(request, reads) if known(request, reads) else None
    return reads.sessions.sign(Kind.STREAM, creator_id, f"{key.proof} {key.name}" if key else "", ends_ms)


def _check_stream_token(request: Request, reads: QueryRunner, creator_id: str) -> None:
    session = reads.sessions.read(Kind.STREAM, request.query_params[STREAM_PARAMETER])
    if session is not None and session.subject == creator_id:
        of_key, _, name = session.proof.partition(" ")
        if reads.keys is None or reads.settings.api_public or reads.keys.named(name, of_key) is not None:
            return
    detail = "this token is over, or of another stream: get a new one"
    raise Problem(HTTPStatus.UNAUTHORIZED, ReadReason.KEY_UNKNOWN, detail, headers=_CHALLENGE)


def known(request: Request, reads: QueryRunner) -> bool:
    """Whether the service has keys and the request brings a valid one, of any role."""
    try:
        return key_of(request, reads) is not None
    except Problem:
        return False


def may(request: Request, reads: QueryRunner, role: Role) -> bool:
    """Whether the request may read what needs this role, and is about nobody in particular."""
    try:
        check(request, reads, Need(role), {})
    except Problem:
        return False
    return True


@cache
def checker(need: Need) -> Callable[..., Awaitable[Key | None]]:
    """The dependency that checks a need. Cached, so that ``need_of`` can recognise it."""

    async def checked(request: Request) -> Key | None:
        reads = runner_of(request)
        return check(request, reads, need, await named_in(request, reads))

    return checked


def needs(role: Role, *, public: bool = False, stream: bool = False) -> Any:  # noqa: ANN401 - FastAPI's marker of a dependency has no type
    """For ``dependencies=`` of a route with this need."""
    return Depends(checker(Need(role, public, stream)))


def need_of(route: APIRoute) -> Need | None:
    """What a route needs; None if it is public."""
    checkers = {checker(Need(*flags)): Need(*flags) for flags in product(Role, (False, True), (False, True))}
    return next((checkers[one.dependency] for one in route.dependencies if one.dependency in checkers), None)
