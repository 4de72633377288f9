"""Months for finance: where each stands, its payouts and its proof."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from ingest.contract.month import month_text
from ingest.contract.names import ID_LENGTH_MAX
from warehouse.api import auth
from warehouse.api.problems import RESPONSES, Problem, ProblemBody, ReadReason
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.shapes import AsOf, PathMonth, moment
from warehouse.keys import Role
from warehouse.payout import month_status
from warehouse.payout.books.export import csv_text
from warehouse.payout.close import proof
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.stages import Stage
from warehouse.payout.closed_months import all_payouts
from warehouse.payout.month_status import State

_NOT_CLOSED: dict[int | str, dict[str, Any]] = {
    404: {"model": ProblemBody, "description": "The month is not closed, so it has no payouts yet."}
}
router = APIRouter(
    prefix="/v1/months",
    tags=["months"],
    responses={**RESPONSES, **auth.RESPONSES},
    dependencies=[auth.needs(Role.FINANCE)],
)


class MonthLine(BaseModel):
    """One month."""

    month: str = Field(examples=["2026-11"])
    closed: bool


class CheckBody(BaseModel):
    """One check of the gate."""

    name: str = Field(examples=["drained"])
    passed: bool | None = Field(description="null if only the close itself can tell")
    detail: str


class StageBody(BaseModel):
    """A stage of the newest run."""

    stage: Stage
    done_at: datetime


class MonthStatus(AsOf):
    """Where a month stands."""

    month: str = Field(examples=["2026-11"])
    state: State
    archived: bool = Field(description="whether its flattrs and counts left the tables; payouts, ledger and proof stay")
    checks: list[CheckBody] = Field(description="what the close is waiting for")
    tallies: dict[str, int] = Field(description="what became of the month's accepted clicks")
    stages: list[StageBody]
    proof: dict[str, Any] | None = Field(description="of a closed month; amounts in micro-units of its currency")


class PayoutLine(BaseModel):
    """One creator: carried_in + held_in + earned + adjusted = paid + carried_out + held_out, in micro-units."""

    creator_id: str
    currency: str
    members: int
    flattrs: int
    earned_micro: int
    carried_in_micro: int
    held_in_micro: int
    adjusted_micro: int
    paid_micro: int
    carried_out_micro: int
    held_out_micro: int
    reason: str = Field(description="paid, below_minimum, held, unclaimed, debt or nothing")
    payment_id: str


class PayoutPage(BaseModel):
    """One page of a closed month's payouts. They never change, so there is no lag."""

    month: str = Field(examples=["2026-11"])
    seal: str = Field(description="SHA-256 of the month's proof")
    next: str | None = Field(description="the last creator of this page: `after` of the next; null on the last")
    payouts: list[PayoutLine]


@router.get("", summary="All months with flattrs or a seal")
async def months(reads: Runner) -> list[MonthLine]:
    """Newest first."""
    return [MonthLine(month=month_text(month), closed=closed) for month, closed in await reads.run(month_status.months)]


@router.get("/{month}", summary="Where a month stands")
async def status(reads: Runner, month: PathMonth) -> MonthStatus:
    """The gate's checks, the stages done and, once it is closed, the proof."""
    lag = await reads.lag()
    facts = await reads.run(month_status.read_facts, month, reads.rules)
    return MonthStatus.with_lag(
        lag,
        month=month_text(month),
        state=month_status.state_of(facts),
        archived=month in await reads.archived(),
        checks=[CheckBody(**asdict(check)) for check in month_status.checks(month, facts, lag, reads.rules)],
        tallies=facts.tallies.as_dict(),
        stages=[StageBody(stage=done.stage, done_at=moment(done.done_at_ms)) for done in facts.stages],  # type: ignore[arg-type]  # a time that is given is not None
        proof=None if facts.proof is None else asdict(facts.proof),
    )


async def closed(reads: QueryRunner, month: int) -> Proof:
    """The month's proof. Raises ``Problem`` 404 while it is open."""
    found = await reads.run(proof.stored, month)
    if found is None:
        detail = f"{month_text(month)} is not closed, so it has no payouts and no books yet"
        raise Problem(HTTPStatus.NOT_FOUND, ReadReason.MONTH_NOT_CLOSED, detail)
    return found


@router.get("/{month}/payouts", summary="Payouts of a closed month", responses=_NOT_CLOSED)
async def payouts(
    reads: Runner,
    month: PathMonth,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=ID_LENGTH_MAX, description="`next` of the page before")] = "",
) -> PayoutPage:
    """By creator. What is not paid is carried or held; `reason` says why."""
    sealed = await closed(reads, month)
    lines = await reads.run(month_status.payouts_page, month, limit, after)
    return PayoutPage(
        month=month_text(month),
        seal=sealed.seal,
        next=lines[-1].creator_id if len(lines) == limit else None,
        payouts=[PayoutLine.model_validate(asdict(line)) for line in lines],
    )


@router.get("/{month}/payouts.csv", summary="The same as one file", responses=_NOT_CLOSED, response_class=Response)
async def payouts_csv(reads: Runner, month: PathMonth) -> StreamingResponse:
    """The same bytes as `flattr payouts export`."""
    await closed(reads, month)
    headers = {"Content-Disposition": f'attachment; filename="payouts-{month_text(month)}.csv"'}
    return StreamingResponse(csv_text(all_payouts(reads.warehouse, month)), media_type="text/csv", headers=headers)


@router.get("/{month}/proof", summary="The proof of a closed month", responses=_NOT_CLOSED, response_class=Response)
async def month_proof(reads: Runner, month: PathMonth) -> Response:
    """The canonical bytes, whose SHA-256 is the seal; the header `X-Seal` has it too."""
    sealed = await closed(reads, month)
    headers = {"X-Seal": sealed.seal, "Content-Disposition": f'attachment; filename="proof-{month_text(month)}.json"'}
    return Response(sealed.text(), media_type="application/json", headers=headers)
