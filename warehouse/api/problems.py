"""Errors of the read API: RFC 9457 problem details with a stable reason code."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ingest.contract.rejection import Reason
from ingest.runtime.refusal import Refused
from ingest.runtime.refusal import problem as refusal_problem
from warehouse.api import templates
from warehouse.storage.archived import MonthArchived
from warehouse.storage.errors import WarehouseRefused, WarehouseUnavailable

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2
#: How many mistakes in a request are reported, and how many characters of each.
_TOLD_MAX: Final = 5
_SENTENCE_MAX: Final = 300
#: The server's message contains the query, and that contains what the caller sent.
_LOGGED_MAX: Final = 1000


#: Addresses that only programs ask for.
_PROGRAMS: Final = ("/v1/", "/live", "/ready", "/metrics", "/openapi.json")


class ReadReason(StrEnum):
    """Why a read was refused. The codes are part of the API and never change their meaning."""

    MONTH_MALFORMED = "month_malformed"
    MONTH_NOT_CLOSED = "month_not_closed"
    MONTH_ARCHIVED = "month_archived"
    LINE_UNKNOWN = "line_unknown"
    PARAMETER_INVALID = "parameter_invalid"
    PARAMETER_UNKNOWN = "parameter_unknown"
    TOO_MANY = "too_many"
    ADDRESS_TOO_LONG = "address_too_long"
    KEY_MISSING = "key_missing"
    KEY_UNKNOWN = "key_unknown"
    ROLE_MISSING = "role_missing"
    SCOPE_MISSING = "scope_missing"
    MEMBERS_UNSERVED = "members_unserved"
    CURSOR_MALFORMED = "cursor_malformed"
    CLICK_UNKNOWN = "click_unknown"
    ROUTE_UNKNOWN = "route_unknown"
    METHOD_UNKNOWN = "method_unknown"
    WAREHOUSE_UNAVAILABLE = "warehouse_unavailable"
    SCHEMA_MISSING = "schema_missing"
    QUEUE_FULL = "queue_full"
    INTERNAL = "internal"


class Problem(Exception):
    """An error answer. ``detail`` says what is wrong or what to do; ``parameters`` are those that were refused."""

    def __init__(
        self,
        status: HTTPStatus,
        reason: ReadReason,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        parameters: Sequence[str] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = headers or {}
        self.parameters = list(parameters)


class ProblemBody(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = Field(examples=["urn:flattr:reason:month_malformed"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    reason: ReadReason = Field(description="stable code, for programs")
    detail: str = Field(description="a sentence for people", examples=["'2026-13' is not a month such as 2026-11"])
    parameters: list[str] = Field(default=[], description="the parameters that were refused")


class _Told(msgspec.Struct):
    """What a page says of a problem."""

    title: str
    detail: str

    @property
    def sentence(self) -> str:
        """The detail as a sentence."""
        return f"{self.detail[:1].upper()}{self.detail[1:]}{'' if self.detail.endswith(('?', '.')) else '.'}"


#: For ``responses=`` of every route.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemBody, "content": {MEDIA_TYPE: {}}, "description": meaning}
    for status, meaning in (
        (410, "The month is archived: its counts and clicks left the tables, until an operator restores them."),
        (422, "A parameter is invalid; `reason` says which rule it breaks."),
        (503, "The warehouse is unavailable or the queue is full; Retry-After says when to try again."),
    )
}


def answer(problem: Problem) -> JSONResponse:
    """The response for a problem."""
    body = ProblemBody(
        type=f"urn:flattr:reason:{problem.reason}",
        title=problem.status.phrase,
        status=problem.status,
        reason=problem.reason,
        detail=problem.detail,
        parameters=problem.parameters,
    )
    return JSONResponse(
        body.model_dump(exclude_defaults=True),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def unavailable(reason: ReadReason, detail: str) -> Problem:
    """A 503 problem with Retry-After."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, reason, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


#: Errors that ``answer_to`` turns into responses.
ANSWERED: Final = (Problem, Refused, MonthArchived, WarehouseUnavailable, WarehouseRefused)


def _refused(error: Refused) -> Response:
    """A token that was refused: the same body as ingest's, with the same reasons."""
    status, body = refusal_problem([error.refusal])
    headers = {"WWW-Authenticate": 'Bearer realm="flattr member"'} if status == HTTPStatus.UNAUTHORIZED else {}
    if error.refusal.reason is Reason.TOKEN_EARLY:
        headers["Retry-After"] = str(error.retry_after_s)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def answer_to(error: Exception) -> Response:
    """The response for one of ``ANSWERED``; any other error is raised again."""
    match error:
        case Problem():
            return answer(error)
        case Refused():
            return _refused(error)
        case MonthArchived():
            return answer(Problem(HTTPStatus.GONE, ReadReason.MONTH_ARCHIVED, str(error)))
        case WarehouseUnavailable():
            # The driver's message names hosts and users, which callers must not see.
            away = "the warehouse does not answer; try again in a moment"
            return answer(unavailable(ReadReason.WAREHOUSE_UNAVAILABLE, away))
        case WarehouseRefused():
            log.error("warehouse refused a query", error=str(error)[:_LOGGED_MAX], code=error.code)
            detail = "this is an error of the service, not of the request; the log has the details"
            return answer(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, ReadReason.INTERNAL, detail))
    raise error


def is_for_people(request: Request) -> bool:
    """Whether a browser shows the answer as a page: not what programs ask for, whatever they accept."""
    path = request.url.path
    return not path.startswith(_PROGRAMS) and "text/html" in request.headers.get("accept", "")


def _told(request: Request, error: Exception) -> Response:
    """The answer to an error: a page for people, a problem document for programs."""
    found = answer_to(error)
    if not is_for_people(request) or not isinstance(found, JSONResponse):
        return found
    told = msgspec.json.decode(found.body, type=_Told)
    page = templates.page("message.html", status=found.status_code, title=told.title, detail=told.sentence)
    page.headers.update({name: text for name, text in found.headers.items() if not name.startswith("content-")})
    return page


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""

    async def known(request: Request, error: Exception) -> Response:
        return _told(request, error)

    for kind in ANSWERED:
        app.add_exception_handler(kind, known)

    async def gone(_: Request, __: Exception) -> Response:
        return Response()  # the client is gone and will not receive it

    app.add_exception_handler(ClientDisconnect, gone)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Limited, because a request can contain a thousand mistakes.
        wrong = error.errors()[:_TOLD_MAX]
        places = [".".join(str(part) for part in item["loc"])[:_SENTENCE_MAX] for item in wrong]
        sentences = [f"{place}: {item['msg']}"[:_SENTENCE_MAX] for place, item in zip(places, wrong, strict=True)]
        status, reason = HTTPStatus.UNPROCESSABLE_ENTITY, ReadReason.PARAMETER_INVALID
        return _told(request, Problem(status, reason, "; ".join(sentences), parameters=places))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not allowed here; use GET"
            reason = ReadReason.METHOD_UNKNOWN
        else:
            reason, detail = ReadReason.ROUTE_UNKNOWN, "there is nothing at this address; /docs lists all routes"
        return _told(request, Problem(HTTPStatus(error.status_code), reason, detail, headers=dict(error.headers or {})))
