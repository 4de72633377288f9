"""Time series of a creator and a thing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ingest.contract.month import month_text
from warehouse.api import auth
from warehouse.api.problems import RESPONSES
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.shapes import AsOf, CreatorId, QueryMonth, ThingId, moment
from warehouse.counts import series
from warehouse.counts.lag import Lag
from warehouse.counts.series import Interval, Point
from warehouse.keys import Role
from warehouse.storage.client import Warehouse

router = APIRouter(prefix="/v1", tags=["series"], responses={**RESPONSES, **auth.RESPONSES})

By = Annotated[Interval, Query(description="the time that one point covers")]


class PointBody(BaseModel):
    """Flattrs clicked in one interval."""

    at: datetime = Field(description="start of the interval, UTC")
    flattrs: int


class Series(AsOf):
    """A month without gaps, up to now. The points add up to the count."""

    month: str = Field(examples=["2026-11"])
    by: Interval
    points: list[PointBody]


class MonthPoint(BaseModel):
    """Flattrs of one month."""

    month: str = Field(examples=["2026-11"])
    flattrs: int


class Months(AsOf):
    """All months with flattrs, oldest first, but those that are archived. They add up to ``flattrs``."""

    flattrs: int = Field(description="of all months", examples=[10284])
    months: list[MonthPoint]
    archived: list[str] = Field(description="months that are archived, and so are not counted here", examples=[[]])


OfMonths = Callable[[Warehouse, str, tuple[int, ...], frozenset[int]], list[tuple[int, int]]]


async def months_of(reads: QueryRunner, query: OfMonths, identifier: str) -> tuple[Lag, list[tuple[int, int]]]:
    """The (month, flattrs) of a creator or thing, of all months with flattrs, oldest first; with the lag."""
    months = tuple(sorted(await reads.known_months()))
    if not months:
        return await reads.lag(), []
    return await reads.keep_whole(query, identifier, months, await reads.flagged_months())


async def _months(reads: QueryRunner, query: OfMonths, identifier: str) -> Months:
    lag, found = await months_of(reads, query, identifier)
    points = [{"month": month_text(month), "flattrs": flattrs} for month, flattrs in found]
    total, archived = sum(flattrs for _, flattrs in found), await reads.archived_names()
    return Months.with_lag(lag, flattrs=total, months=points, archived=archived)


def bodies(points: list[Point]) -> list[dict[str, object]]:
    """Points in the shape of ``PointBody``."""
    return [{"at": moment(point.at_ms), "flattrs": point.flattrs} for point in points]


@router.get(
    "/creators/{creator_id:path}/series",
    summary="A creator's month",
    dependencies=[auth.needs(Role.DASHBOARD, public=True)],
)
async def creator_series(reads: Runner, creator_id: CreatorId, month: QueryMonth, by: By = Interval.DAY) -> Series:
    """Active flattrs by hour or day of the click."""
    lag, rows = await reads.keep(series.creator_hours, month, creator_id, flagged=await reads.flagged(month))
    points = bodies(series.fill(rows, month, by, reads.clock()))
    return Series.with_lag(lag, month=month_text(month), by=by, points=points)


@router.get(
    "/things/{thing_id}/series", summary="A thing's month", dependencies=[auth.needs(Role.DASHBOARD, public=True)]
)
async def thing_series(reads: Runner, thing_id: ThingId, month: QueryMonth, by: By = Interval.DAY) -> Series:
    """Active flattrs by hour or day of the click."""
    lag, rows = await reads.keep(series.thing_hours, month, thing_id, flagged=await reads.flagged(month))
    points = bodies(series.fill(rows, month, by, reads.clock()))
    return Series.with_lag(lag, month=month_text(month), by=by, points=points)


@router.get(
    "/creators/{creator_id:path}/months",
    summary="A creator's months",
    dependencies=[auth.needs(Role.DASHBOARD, public=True)],
)
async def creator_months(reads: Runner, creator_id: CreatorId) -> Months:
    """Flattrs by month, and of all time."""
    return await _months(reads, series.creator_months, creator_id)


@router.get(
    "/things/{thing_id}/months", summary="A thing's months", dependencies=[auth.needs(Role.DASHBOARD, public=True)]
)
async def thing_months(reads: Runner, thing_id: ThingId) -> Months:
    """Flattrs by month, and of all time."""
    return await _months(reads, series.thing_months, thing_id)
