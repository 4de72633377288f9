"""Parameters and response models that several routes share."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Self

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, Field

from ingest.contract import month as months
from ingest.contract.month import month_of
from ingest.contract.names import IDENTIFIER, identifier
from ingest.contract.thing import THING_ID
from warehouse.api.problems import Problem, ReadReason
from warehouse.api.query_runner import QueryRunner, runner_of
from warehouse.counts.lag import Lag


def parse_month(text: str) -> int:
    """202611 for '2026-11'. Raises ``Problem`` 422."""
    try:
        return months.parse_month(text)
    except ValueError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ReadReason.MONTH_MALFORMED, str(error)) from None


def month_or_current(reads: QueryRunner, month: str | None) -> int:
    """The given month, or else the current one. Raises ``Problem`` 422."""
    return month_of(reads.clock()) if month is None else parse_month(month)


async def month_in_query(
    request: Request,
    month: Annotated[
        str | None, Query(description="YYYY-MM in UTC; without it, the current one", examples=["2026-11"])
    ] = None,
) -> int:
    """The query parameter ``month``; the current month by default. Raises ``MonthArchived``."""
    reads = runner_of(request)
    return await reads.present(month_or_current(reads, month))


async def month_in_path(month: Annotated[str, Path(description="YYYY-MM in UTC", examples=["2026-11"])]) -> int:
    """The month in the path."""
    return parse_month(month)


QueryMonth = Annotated[int, Depends(month_in_query)]
PathMonth = Annotated[int, Depends(month_in_path)]
_AS_IN_CLICKS = {"pattern": f"^{IDENTIFIER.pattern}$"}
CreatorId = Annotated[
    str,
    AfterValidator(lambda sent: identifier("creator_id", sent)),
    Path(json_schema_extra=_AS_IN_CLICKS, examples=["anna"]),
]
MemberId = Annotated[
    str,
    AfterValidator(lambda sent: identifier("member_id", sent)),
    Path(json_schema_extra=_AS_IN_CLICKS, examples=["m-1"]),
]
ThingId = Annotated[
    str,
    Path(
        pattern=f"^{THING_ID.pattern}$",
        description="32 hexadecimal digits",
        examples=["9f86d081884c7d659a2feaa0c55ad015"],
    ),
]


def moment(at_ms: int | None) -> datetime | None:
    """A time in ms as a datetime in UTC."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


class LagBody(BaseModel):
    """How far the pipeline is behind."""

    records: int | None = Field(description="records in the log not yet counted; null if its end is unknown")
    seconds: float | None = Field(description="age of as_of in seconds; null if as_of is", examples=[0.412])


class AsOf(BaseModel):
    """Base of every body with a count."""

    as_of: datetime | None = Field(
        description="every click accepted before this moment is in the count; null while a partition was never counted"
    )
    lag: LagBody

    @classmethod
    def fields(cls, lag: Lag) -> dict[str, object]:
        """The two fields, for building a subclass."""
        return {"as_of": moment(lag.as_of_ms), "lag": LagBody(records=lag.records, seconds=lag.seconds)}

    @classmethod
    def plain(cls, lag: Lag) -> dict[str, object]:
        """The two fields as plain values, for routes that encode JSON themselves."""
        return {"as_of": moment(lag.as_of_ms), "lag": {"records": lag.records, "seconds": lag.seconds}}

    @classmethod
    def with_lag(cls, lag: Lag, **values: object) -> Self:
        """A body with ``values`` and the lag."""
        return cls.model_validate({**values, **cls.fields(lag)})
