"""Signing in to the pages, with an API key or as a member, and out again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from ingest.runtime.refusal import Refused
from warehouse.api import auth, member_auth, templates
from warehouse.api.auth import Need
from warehouse.api.problems import Problem
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.sessions import Kind, Session
from warehouse.keys import Role

router = APIRouter(include_in_schema=False)

#: Room for the longest token and an address.
_FORM_MAX_BYTES: Final = 8192
#: Where a member's page is.
MEMBER_PAGE: Final = "/me"


class LoginNeeded(Exception):
    """A page was requested without a key, or with one that lacks the role."""

    def __init__(self, problem: Problem, address: str) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.address = address


class MemberNeeded(Exception):
    """A member's page was requested without a session."""


def install(app: FastAPI) -> None:
    """Send people to the form where they sign in; programs get a problem document instead."""

    @app.exception_handler(LoginNeeded)
    async def login_needed(_: Request, needed: LoginNeeded) -> Response:
        if needed.problem.status is HTTPStatus.FORBIDDEN:
            return templates.page("login.html", status=403, wrong=f"{needed.problem.detail}.", next=needed.address)
        return see(f"/login?next={quote(needed.address, safe='')}")

    @app.exception_handler(MemberNeeded)
    async def member_needed(_: Request, __: MemberNeeded) -> Response:
        return templates.page("member_login.html", status=401, wrong=None)


def reader_of(request: Request) -> str:
    """Who seems to be signed in, for the page's head: ``member``, ``key`` or nobody."""
    return "member" if member_auth.COOKIE in request.cookies else "key" if auth.COOKIE in request.cookies else ""


async def enter(request: Request, reads: QueryRunner, role: Role, *, public: bool = False) -> None:
    """Check that the reader's key opens the page. Raises ``LoginNeeded``."""
    try:
        auth.check(request, reads, Need(role, public), await auth.named_in(request, reads))
    except Problem as problem:
        address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        raise LoginNeeded(problem, address) from None


def enter_as_member(request: Request, reads: QueryRunner) -> Session:
    """The member's session that the request brings. Raises ``MemberNeeded``, and ``Problem`` 404 without token keys."""
    session = member_auth.session_of(request, reads)
    if session is None:
        member_auth.tokens_of(reads)
        raise MemberNeeded
    return session


@router.get("/login")
async def login_form(next: str = "/") -> Response:  # noqa: A002 - the parameter's name in the address
    """The form for a key."""
    return templates.page("login.html", wrong=None, next=_own(next))


@router.post("/login")
async def login(request: Request, reads: Runner) -> Response:
    """Begin a session for a key. Neither scripts nor other sites can read its cookie, and the key is not in it."""
    if not from_own_page(request):
        return templates.page("login.html", status=403, wrong="Please log in on this page.", next="/")
    form = await form_of(request)
    if form is None:
        return templates.page("login.html", status=413, wrong="That is not a key.", next="/")
    address, secret = _own(form.get("next", "/")), form.get("key", "").strip()
    answer = see(address)
    if reads.keys is None:
        return answer
    key = reads.keys.holder(secret)
    if key is None:
        return templates.page("login.html", status=401, wrong="This key is unknown.", next=address)
    valid_s = reads.settings.api_session_s
    session = reads.sessions.sign(Kind.KEY, key.name, key.proof, reads.clock() + round(valid_s * 1000))
    _set_cookie(request, answer, auth.COOKIE, session, valid_s, "strict")
    return answer


@router.post("/logout")
async def logout(request: Request, reads: Runner) -> Response:
    """End the sessions that the browser has, a key's and a member's. Another site's form ends none."""
    answer = see("/")
    if not from_own_page(request):
        return answer
    for kind, cookie in ((Kind.KEY, auth.COOKIE), (Kind.MEMBER, member_auth.COOKIE)):
        session = reads.sessions.read(kind, request.cookies.get(cookie, ""))
        if session is not None:
            reads.sessions.end(session)
        answer.delete_cookie(cookie)
    answer.delete_cookie(member_auth.TOKEN_COOKIE, path=MEMBER_PAGE)
    return answer


@router.post(MEMBER_PAGE)
async def member_login(request: Request, reads: Runner) -> Response:
    """Begin a session for a member's token, which lasts no longer than the token.

    The platform's page may send the form: that page issues the tokens.
    """
    tokens = member_auth.tokens_of(reads)
    form = await form_of(request)
    if form is None:
        return templates.page("member_login.html", status=413, wrong="That is not a token.")
    token = form.get("token", "").strip()
    try:
        member = tokens.member(token.encode())
    except Refused as refused:
        return templates.page("member_login.html", status=401, wrong=f"{refused.refusal.detail}.".capitalize())
    now_ms = reads.clock()
    ends_ms = min(member.expires_at, now_ms + round(reads.settings.api_session_s * 1000))
    text = reads.sessions.sign(Kind.MEMBER, member.member_id, member.kid, ends_ms)
    answer = see(MEMBER_PAGE)
    # Lax, because the platform's form and links lead here from another site. No GET changes anything.
    _set_cookie(request, answer, member_auth.COOKIE, text, (ends_ms - now_ms) / 1000, "lax")
    session = reads.sessions.read(Kind.MEMBER, text)
    if session is not None and reads.settings.api_ingest is not None:
        sealed = reads.sessions.seal(session.session_id, token)
        _set_cookie(request, answer, member_auth.TOKEN_COOKIE, sealed, (ends_ms - now_ms) / 1000, "lax", MEMBER_PAGE)
    return answer


def _set_cookie(  # noqa: PLR0913, PLR0917 - a cookie is what it is
    request: Request,
    answer: Response,
    name: str,
    session: str,
    valid_s: float,
    same_site: Literal["strict", "lax"],
    path: str = "/",
) -> None:
    answer.set_cookie(
        name,
        session,
        max_age=round(valid_s),
        path=path,
        httponly=True,
        samesite=same_site,
        secure=came_by_https(request),
    )


async def form_of(request: Request) -> dict[str, str] | None:
    """The fields of the form; None if it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_MAX_BYTES:
            return None
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def from_own_page(request: Request) -> bool:
    """Whether the browser says that one of our pages sent this form; programs and old browsers say nothing.

    The cookies' SameSite keeps other sites from acting for a reader, but not from setting or deleting the cookies.
    """
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def came_by_https(request: Request) -> bool:
    """Whether the browser uses TLS, wherever it is terminated.

    Behind a proxy the proxy says so, or else the browser, in the Origin of every form. A client that lies about it
    harms only its own cookie.
    """
    told = (request.url.scheme, request.headers.get("x-forwarded-proto"))
    return "https" in told or request.headers.get("origin", "").startswith("https://")


def _own(address: str) -> str:
    """The address if it is on this site, so that a redirect is safe; otherwise the front page."""
    fine = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if fine else "/"


def see(address: str) -> RedirectResponse:
    """The answer to a form: look there."""
    return RedirectResponse(address, status_code=HTTPStatus.SEE_OTHER, headers=templates.HEADERS)
