"""Receipts. Public: a click id is random, so only its sender, and whoever the sender told, knows it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from ingest.contract.month import month_before, month_of, month_text
from warehouse.api.problems import RESPONSES, Problem, ProblemBody, ReadReason
from warehouse.api.query_runner import NO_MONTH, Runner
from warehouse.api.shapes import AsOf, parse_month
from warehouse.counts import receipts
from warehouse.counts.receipts import Receipt, Status

router = APIRouter(prefix="/v1", tags=["receipts"], responses=RESPONSES)


class ReceiptBody(AsOf):
    """What became of a click. Fields that do not apply to its status are null."""

    click_id: UUID
    status: Status
    month: str | None = Field(examples=["2026-11"])
    offset: int | None = Field(description="of its record in the partition's log")
    thing_id: str | None
    stands: bool | None = Field(description="of a counted click: whether its flattr is still active")
    duplicate_of: UUID | None = Field(description="the click that was counted instead")
    reason: str | None = Field(description="why it was rejected", examples=["own_thing"])
    detail: str | None


@router.get(
    "/receipts/{click_id}",
    summary="What became of a click",
    responses={
        404: {"model": ProblemBody, "description": "No such click: neither counted nor known to be on its way."}
    },
)
async def receipt(  # noqa: PLR0913, PLR0917 - one parameter each of the address
    request: Request,
    response: Response,
    reads: Runner,
    click_id: UUID,
    partition: Annotated[int | None, Query(ge=0, le=65535, description="from the 202's receipt")] = None,
    offset: Annotated[int | None, Query(ge=0, lt=1 << 40, description="from the 202's receipt")] = None,
    month: Annotated[str | None, Query(description="YYYY-MM; by default the current month and the one before")] = None,
) -> ReceiptBody:
    """Counted, a duplicate (and of which click), an undo, late, rejected (and why), or accepted and not yet counted.

    Give the partition and offset of the 202's receipt to distinguish a click on its way from an unknown one.
    """
    lag = await reads.lag()
    months = recent_months(reads.clock()) if month is None else [await reads.present(parse_month(month))]
    known = [one for one in months if await reads.asked_of(one) != NO_MONTH]
    async with reads.lane.turn(reads.address_of(request.scope)):
        # The order matters: a click that is counted between the two queries is found by the second.
        on_its_way = (
            partition is not None
            and offset is not None
            and await reads.run(receipts.awaits_counting, partition, offset)
        )
        found = await reads.run(receipts.find, str(click_id), known) if known else None
    if found is None and on_its_way:
        found = Receipt(Status.ACCEPTED, offset=offset)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, ReadReason.CLICK_UNKNOWN, _not_found(months, offset))
    response.headers["Cache-Control"] = "no-store"
    return ReceiptBody.with_lag(
        lag,
        click_id=click_id,
        status=found.status,
        month=found.month and month_text(found.month),
        offset=found.offset,
        thing_id=found.thing_id,
        stands=found.stands,
        duplicate_of=found.duplicate_of,
        reason=found.reason,
        detail=found.detail,
    )


def recent_months(now_ms: int) -> list[int]:
    """The current month and the one before it."""
    current = month_of(now_ms)
    return [month_before(current), current]


def _not_found(months: list[int], offset: int | None) -> str:
    where = " or ".join(month_text(month) for month in months)
    hint = "" if offset is not None else "; add the partition and offset of its receipt to see whether it is on its way"
    return f"no click in {where} has this id{hint}"
