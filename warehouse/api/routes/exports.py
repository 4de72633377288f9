"""Counts of many months as one table, CSV or Parquet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator

from ingest.contract.month import month_of, month_text
from ingest.contract.names import identifier
from warehouse.api import auth
from warehouse.api.problems import RESPONSES, Problem, ReadReason
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.request_guard import HEADERS_ONLY
from warehouse.api.shapes import moment, parse_month
from warehouse.api.tables import Form, Row, written
from warehouse.counts import rankings, series
from warehouse.counts.series import Interval
from warehouse.keys import Role
from warehouse.storage.client import Warehouse

P = ParamSpec("P")
T = TypeVar("T")
_TABLE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the table; the header `X-As-Of` says until when every accepted click is in it",
        "content": {form.media_type: {"schema": {"type": "string", "format": "binary"}} for form in Form},
    }
}
router = APIRouter(
    prefix="/v1/exports",
    tags=["exports"],
    responses={**RESPONSES, **auth.RESPONSES, **_TABLE},
    dependencies=[auth.needs(Role.DASHBOARD)],
)

_PAGE: Final = 50_000

Since = Annotated[
    str | None, Query(description="first month, YYYY-MM; by default the current one", examples=["2026-01"])
]
Until = Annotated[
    str | None, Query(description="last month, YYYY-MM; by default the current one", examples=["2026-11"])
]
HowWritten = Annotated[Form, Query(description="csv or parquet")]
Creator = Annotated[
    str, AfterValidator(lambda sent: identifier("creator", sent)), Query(description="whose days", examples=["anna"])
]


@router.get("/creators", summary="Flattrs of all creators by month", response_class=Response)
async def creators(
    request: Request, reads: Runner, since: Since = None, until: Until = None, form: HowWritten = Form.CSV
) -> Response:
    """Columns: month, creator_id, flattrs. By month, then by creator."""

    async def pages() -> AsyncIterator[Sequence[Row]]:
        for month in months:
            flagged, after, full = await reads.flagged(month), "", True
            while full:
                ranks = await _run(reads, rankings.creators_by_prefix, month, "", _PAGE, after, flagged=flagged)
                yield [(month_text(month), rank.creator_id, rank.flattrs) for rank in ranks]
                full = len(ranks) == _PAGE
                after = ranks[-1].creator_id if ranks else ""

    months = await _months(reads, since, until)
    columns = (("month", str), ("creator_id", str), ("flattrs", int))
    return await _table(request, reads, "creators", form, columns, pages())


@router.get("/things", summary="Flattrs of all things by month", response_class=Response)
async def things(
    request: Request, reads: Runner, since: Since = None, until: Until = None, form: HowWritten = Form.CSV
) -> Response:
    """Columns: month, thing_id, creator_id, thing, flattrs. By month, then by thing id."""

    async def pages() -> AsyncIterator[Sequence[Row]]:
        for month in months:
            flagged, after, full = await reads.flagged(month), "", True
            while full:
                ranks = await _run(reads, rankings.things_by_id, month, _PAGE, after, flagged=flagged)
                yield [(month_text(month), rank.thing_id, rank.creator_id, rank.thing, rank.flattrs) for rank in ranks]
                full = len(ranks) == _PAGE
                after = ranks[-1].thing_id if ranks else ""

    months = await _months(reads, since, until)
    columns = (("month", str), ("thing_id", str), ("creator_id", str), ("thing", str), ("flattrs", int))
    return await _table(request, reads, "things", form, columns, pages())


@router.get("/days", summary="Flattrs of a creator by day", response_class=Response)
async def days(  # noqa: PLR0913, PLR0917 - one parameter each of the address
    request: Request,
    reads: Runner,
    creator: Creator,
    since: Since = None,
    until: Until = None,
    form: HowWritten = Form.CSV,
) -> Response:
    """Columns: day, flattrs. Each month without gaps, its days adding up to its count; months without data left out."""

    async def pages() -> AsyncIterator[Sequence[Row]]:
        for month in months:
            hours = await _run(reads, series.creator_hours, month, creator, flagged=await reads.flagged(month))
            points = series.fill(hours, month, Interval.DAY, reads.clock())
            yield [(f"{datetime.fromtimestamp(point.at_ms / 1000, UTC):%Y-%m-%d}", point.flattrs) for point in points]

    months = await _months(reads, since, until)
    return await _table(request, reads, "days", form, (("day", str), ("flattrs", int)), pages())


async def _months(reads: QueryRunner, since: str | None, until: str | None) -> list[int]:
    """The months of a range that have data, oldest first.

    Raises ``Problem`` 422 if it ends before it begins, and ``MonthArchived``: a table is whole or none.
    """
    current = month_of(reads.clock())
    first, last = (current if text is None else parse_month(text) for text in (since, until))
    if first > last:
        detail = f"the range ends ({month_text(last)}) before it begins ({month_text(first)})"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ReadReason.PARAMETER_INVALID, detail)
    return [await reads.present(month) for month in sorted(await reads.known_months()) if first <= month <= last]


async def _run(
    reads: QueryRunner, query: Callable[Concatenate[Warehouse, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a query for a page of a table: one at a time, with a rest after each, so that nobody else waits."""
    async with reads.export_lane.turn(""):
        return await reads.run(query, *args, **kwargs)


async def _table(  # noqa: PLR0913, PLR0917 - a table is what it is
    request: Request,
    reads: QueryRunner,
    name: str,
    form: Form,
    columns: Sequence[tuple[str, type]],
    pages: AsyncIterator[Sequence[Row]],
) -> Response:
    # The lag is read before the counts; and an outage is still a 503, since nothing was sent yet.
    as_of = moment((await reads.lag()).as_of_ms)
    headers = {
        "X-As-Of": as_of.isoformat() if as_of else "",
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{name}.{form}"',
    }
    if HEADERS_ONLY in request.scope:
        return Response(media_type=form.media_type, headers=headers)
    return StreamingResponse(written(form, columns, pages), media_type=form.media_type, headers=headers)
