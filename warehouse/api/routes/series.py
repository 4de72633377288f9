"""Time series of a creator and a thing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ingest.contract.month import month_text
from warehouse.api import auth
from warehouse.api.problems import RESPONSES
from warehouse.api.query_runner import Runner
from warehouse.api.shapes import AsOf, CreatorId, QueryMonth, ThingId, moment
from warehouse.counts import series
from warehouse.counts.series import Interval, Point
from warehouse.keys import Role

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


def bodies(points: list[Point]) -> list[dict[str, object]]:
    """Points in the shape of ``PointBody``."""
    return [{"at": moment(point.at_ms), "flattrs": point.flattrs} for point in points]


@router.get(
    "/creators/{creator_id:path}/series", summary="A creator's month", dependencies=[auth.needs(Role.DASHBOARD)]
)
async def creator_series(reads: Runner, creator_id: CreatorId, month: QueryMonth, by: By = Interval.DAY) -> Series:
    """Active flattrs by hour or day of the click."""
    lag, rows = await reads.keep(series.creator_hours, month, creator_id, flagged=await reads.flagged(month))
    points = bodies(series.fill(rows, month, by, reads.clock()))
    return Series.with_lag(lag, month=month_text(month), by=by, points=points)


@router.get("/things/{thing_id}/series", summary="A thing's month", dependencies=[auth.needs(Role.DASHBOARD)])
async def thing_series(reads: Runner, thing_id: ThingId, month: QueryMonth, by: By = Interval.DAY) -> Series:
    """Active flattrs by hour or day of the click."""
    lag, rows = await reads.keep(series.thing_hours, month, thing_id, flagged=await reads.flagged(month))
    points = bodies(series.fill(rows, month, by, reads.clock()))
    return Series.with_lag(lag, month=month_text(month), by=by, points=points)
