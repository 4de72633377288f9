"""The pipeline's lag by partition."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from warehouse.api import auth
from warehouse.api.problems import RESPONSES
from warehouse.api.query_runner import Runner
from warehouse.api.shapes import AsOf, moment
from warehouse.keys import Role

router = APIRouter(prefix="/v1", tags=["lag"], responses={**RESPONSES, **auth.RESPONSES})


class PartitionBody(BaseModel):
    """One partition of the log."""

    partition: int
    records: int | None = Field(description="not yet counted; null if the end of its log is unknown")
    seconds: float | None = Field(description="age of as_of in seconds")
    as_of: datetime | None


class LagByPartition(AsOf):
    """The lag of all partitions, and of each."""

    partitions: list[PartitionBody]


@router.get("/lag", summary="How far the counts are behind", dependencies=[auth.needs(Role.DASHBOARD)])
async def lag_by_partition(reads: Runner) -> LagByPartition:
    """In records and in time. The slowest partition determines the `as_of` of every count."""
    lag = await reads.lag()
    partitions = [
        PartitionBody(
            partition=part.partition,
            records=part.records,
            seconds=lag.seconds_of(part),
            as_of=moment(part.as_of_ms),
        )
        for part in lag.partitions
    ]
    return LagByPartition.with_lag(lag, partitions=partitions)
