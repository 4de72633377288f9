"""Members: whose token, or whose session on the member's page, a request brings."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from ingest.contract.rejection import Reason
from ingest.runtime.refusal import Refused
from ingest.runtime.tokens import Tokens
from warehouse.api import auth
from warehouse.api.problems import Problem, ProblemBody, ReadReason
from warehouse.api.query_runner import QueryRunner, runner_of
from warehouse.api.sessions import Kind, Session

COOKIE: Final = "flattr_member"
#: The token that the session began with, sealed: what the page sends clicks with.
TOKEN_COOKIE: Final = "flattr_member_token"  # noqa: S105 - a cookie's name
#: For ``responses=`` of routes for members.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": ProblemBody, "description": "No member token, or one that is invalid, expired or early."},
    403: {"model": ProblemBody, "description": "A pixel token, which opens nothing here."},
    404: {"model": ProblemBody, "description": "This API has no token keys and answers no member."},
}


def tokens_of(reads: QueryRunner) -> Tokens:
    """What verifies members' tokens. Raises ``Problem`` 404 if the API answers no member."""
    if reads.tokens is None:
        detail = "this API answers no members: it has no FLATTR_TOKEN_KEYS"
        raise Problem(HTTPStatus.NOT_FOUND, ReadReason.MEMBERS_UNSERVED, detail)
    return reads.tokens


def session_of(request: Request, reads: QueryRunner) -> Session | None:
    """The session of a member's page that a request brings, while the token key behind it is in force."""
    session = reads.sessions.read(Kind.MEMBER, request.cookies.get(COOKIE, ""))
    return session if session is not None and tokens_of(reads).has_key(session.proof) else None


def token_of(request: Request, reads: QueryRunner, session: Session) -> str | None:
    """The member's token, where the page can send clicks with it."""
    if reads.settings.api_ingest is None:
        return None
    return reads.sessions.unsealed(session.session_id, request.cookies.get(TOKEN_COOKIE, ""))


async def member_of(request: Request) -> str:
    """The id of the member who asks, by token or else by session.

    Raises ``Refused`` as ingest does, and ``Problem`` 404.
    """
    reads = runner_of(request)
    tokens = tokens_of(reads)
    token = auth.bearer(request)
    if token is not None:
        return tokens.member(token.encode()).member_id
    session = session_of(request, reads)
    if session is None:
        raise Refused(Reason.TOKEN_MISSING, "send a member token: Authorization: Bearer")
    return session.subject


Member = Annotated[str, Depends(member_of)]
