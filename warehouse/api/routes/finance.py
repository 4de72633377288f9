"""Finance over HTTP: the ledger of a closed month, and statements. Needs the role finance.

A closed month never changes, so every answer has the seal as its ETag, and a repeated request gets a 304.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from ingest.contract.month import month_text
from warehouse.api import auth
from warehouse.api.conditional import is_current
from warehouse.api.problems import RESPONSES, Problem, ProblemBody, ReadReason
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.routes.months import closed
from warehouse.api.shapes import CreatorId, MemberId, PathMonth
from warehouse.keys import Role
from warehouse.payout.books import creator_statement as of_creators
from warehouse.payout.books import statements
from warehouse.payout.close.proof import Proof
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse, named

_NOT_THERE: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "Unchanged since the ETag in If-None-Match; a closed month never changes."},
    404: {"model": ProblemBody, "description": "The month is not closed, or has no such line."},
}
_MEDIA: Final = {"json": "application/json", "csv": "text/csv", "html": "text/html"}
Form = Literal["json", "csv", "html"]
Statement = statements.MemberStatement | of_creators.CreatorStatement

router = APIRouter(
    prefix="/v1/months",
    tags=["finance"],
    responses={**RESPONSES, **auth.RESPONSES, **_NOT_THERE},
    dependencies=[auth.needs(Role.FINANCE)],
)


class EntryLine(BaseModel):
    """One entry: moves the amount from the debit to the credit account. An account is a class and an owner."""

    kind: str = Field(description="charge, fee, fund, charity, keep, earn, release, hold, pay, correct or return")
    owner: str = Field(description="the creator or adjustment that the entry is about")
    debit_class: str
    debit_owner: str
    credit_class: str
    credit_owner: str
    amount_micro: int
    currency: str
    cites: str = Field(description="the closed line that a correction or return refers to")


class LedgerPage(BaseModel):
    """One page of the month's ledger, by kind and owner."""

    month: str = Field(examples=["2026-11"])
    seal: str
    next: str | None = Field(description="`after` of the next page; null on the last")
    entries: list[EntryLine]


@router.get("/{month}/ledger", summary="The ledger of a closed month", response_model=LedgerPage)
async def ledger(
    reads: Runner,
    request: Request,
    month: PathMonth,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=200, description="`next` of the page before")] = "",
) -> Response:
    """Double-entry: balances are the sums of the entries."""
    sealed = await closed(reads, month)
    unchanged = _unchanged(request, sealed)
    if unchanged is not None:
        return unchanged
    kind, _, owner = after.partition("/")
    values = {"month": month, "limit": limit, "kind": kind, "owner": owner}
    rows = await reads.run(_rows, "payout_entries_page", values)
    entries = [EntryLine.model_validate(dict(zip(EntryLine.model_fields, row, strict=True))) for row in rows]
    cursor = f"{entries[-1].kind}/{entries[-1].owner}" if len(entries) == limit else None
    body = LedgerPage(month=month_text(month), seal=sealed.seal, next=cursor, entries=entries)
    return Response(body.model_dump_json(), media_type="application/json", headers=_headers(sealed))


@router.get("/{month}/members/{member_id:path}/statement", summary="Where a member's pledge went", response_model=None)
async def member_statement(
    reads: Runner, request: Request, month: PathMonth, member_id: MemberId, form: Annotated[Form, Query()] = "json"
) -> Response:
    """Pool, flattrs, remainders, shares and the clicks behind them: everything needed to check it by hand."""
    return await _statement(reads, request, month, lambda w, p: statements.member_statement(w, p, member_id), form)


@router.get(
    "/{month}/creators/{creator_id:path}/statement", summary="Where a creator's money came from", response_model=None
)
async def creator_statement(
    reads: Runner, request: Request, month: PathMonth, creator_id: CreatorId, form: Annotated[Form, Query()] = "json"
) -> Response:
    """The payout line, why it is what it is, and what it is made of by day and thing. It names no member."""
    return await _statement(reads, request, month, lambda w, p: of_creators.creator_statement(w, p, creator_id), form)


async def _statement(
    reads: QueryRunner, request: Request, month: int, read: Callable[[Warehouse, Proof], Statement], form: Form
) -> Response:
    sealed = await closed(reads, month)
    unchanged = _unchanged(request, sealed)
    if unchanged is not None:
        return unchanged
    try:
        statement = await reads.run(read, sealed)
    except PayoutRefused as missing:
        raise Problem(HTTPStatus.NOT_FOUND, ReadReason.LINE_UNKNOWN, str(missing)) from None
    return Response(statements.render(statement, form), media_type=_MEDIA[form], headers=_headers(sealed))


def _rows(warehouse: Warehouse, query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return warehouse.rows(named(query), values)


def _headers(sealed: Proof) -> dict[str, str]:
    return {"ETag": f'"{sealed.seal}"', "Cache-Control": "private, no-cache"}


def _unchanged(request: Request, sealed: Proof) -> Response | None:
    headers = _headers(sealed)
    return Response(status_code=304, headers=headers) if is_current(request.headers, headers["ETag"]) else None
