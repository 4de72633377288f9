"""Top lists and other lists by flattrs, paginated."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field

from ingest.contract.month import month_text
from ingest.contract.names import identifier
from warehouse.api import auth, cursor
from warehouse.api.problems import RESPONSES
from warehouse.api.query_runner import Runner
from warehouse.api.shapes import AsOf, CreatorId, MemberId, QueryMonth
from warehouse.counts import rankings
from warehouse.counts.rankings import CreatorRank, ThingRank
from warehouse.keys import Role

router = APIRouter(prefix="/v1", tags=["lists"], responses={**RESPONSES, **auth.RESPONSES})

Limit = Annotated[int, Query(ge=1, le=1000, description="lines on a page")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before")]


class CreatorLine(BaseModel):
    """A creator and its flattrs."""

    creator_id: str
    flattrs: int


class ThingLine(BaseModel):
    """A thing and its flattrs."""

    thing_id: str
    flattrs: int
    creator_id: str
    thing: str


class Page(AsOf):
    """One page. A list of an open month changes while it is read, so each page states its own moment."""

    month: str = Field(examples=["2026-11"])
    next: str | None = Field(description="cursor of the next page; null on the last")


class CreatorPage(Page):
    """Creators, most flattrs first."""

    creators: list[CreatorLine]


class ThingPage(Page):
    """Things, most flattrs first."""

    things: list[ThingLine]


def start_of(text: str | None) -> tuple[int, str]:
    """Where a page starts, from its cursor. Raises ``Problem`` 422."""
    return rankings.START if text is None else cursor.decode(text, cursor.RANK)


def creator_page(month: int, limit: int, ranks: list[CreatorRank]) -> dict[str, object]:
    """The fields of a page of creators."""
    following = cursor.encode((ranks[-1].flattrs, ranks[-1].creator_id)) if len(ranks) == limit else None
    lines = [CreatorLine(creator_id=rank.creator_id, flattrs=rank.flattrs) for rank in ranks]
    return {"month": month_text(month), "next": following, "creators": lines}


def thing_page(month: int, limit: int, ranks: list[ThingRank]) -> dict[str, object]:
    """The fields of a page of things."""
    following = cursor.encode((ranks[-1].flattrs, ranks[-1].thing_id)) if len(ranks) == limit else None
    lines = [
        ThingLine(thing_id=rank.thing_id, flattrs=rank.flattrs, creator_id=rank.creator_id, thing=rank.thing)
        for rank in ranks
    ]
    return {"month": month_text(month), "next": following, "things": lines}


@router.get("/top/creators", summary="Creators by flattrs", dependencies=[auth.needs(Role.DASHBOARD, public=True)])
async def top_creators(reads: Runner, month: QueryMonth, limit: Limit = 50, cursor: Cursor = None) -> CreatorPage:
    """Most first, then by name."""
    lag, ranks = await reads.keep(
        rankings.top_creators, month, limit, start_of(cursor), flagged=await reads.flagged(month)
    )
    return CreatorPage.with_lag(lag, **creator_page(month, limit, ranks))


@router.get(
    "/creators", summary="Creators by the beginning of their id", dependencies=[auth.needs(Role.DASHBOARD, public=True)]
)
async def creators_by_prefix(
    reads: Runner,
    month: QueryMonth,
    prefix: Annotated[str, AfterValidator(lambda sent: identifier("prefix", sent)), Query(examples=["an"])],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> CreatorPage:
    """Those with flattrs in the month, by id. Capitals and small letters differ, as in ids."""
    lag, ranks = await reads.keep(
        rankings.creators_by_prefix, month, prefix, limit, start_of(cursor)[1], flagged=await reads.flagged(month)
    )
    return CreatorPage.with_lag(lag, **creator_page(month, limit, ranks))


@router.get("/top/things", summary="Things by flattrs", dependencies=[auth.needs(Role.DASHBOARD, public=True)])
async def top_things(reads: Runner, month: QueryMonth, limit: Limit = 50, cursor: Cursor = None) -> ThingPage:
    """Most first, then by id."""
    lag, ranks = await reads.keep(
        rankings.top_things, month, limit, start_of(cursor), flagged=await reads.flagged(month)
    )
    return ThingPage.with_lag(lag, **thing_page(month, limit, ranks))


@router.get(
    "/creators/{creator_id:path}/things",
    summary="A creator's things",
    dependencies=[auth.needs(Role.DASHBOARD, public=True)],
)
async def creator_things(
    reads: Runner, creator_id: CreatorId, month: QueryMonth, limit: Limit = 50, cursor: Cursor = None
) -> ThingPage:
    """Most flattrs first."""
    lag, ranks = await reads.keep(
        rankings.creator_things, month, creator_id, limit, start_of(cursor), flagged=await reads.flagged(month)
    )
    return ThingPage.with_lag(lag, **thing_page(month, limit, ranks))


@router.get(
    "/members/{member_id:path}/creators",
    summary="Where a member's flattrs go",
    dependencies=[auth.needs(Role.FINANCE)],
)
async def member_creators(
    reads: Runner, member_id: MemberId, month: QueryMonth, limit: Limit = 50, cursor: Cursor = None
) -> CreatorPage:
    """Most flattrs first."""
    lag, ranks = await reads.keep(
        rankings.member_creators, month, member_id, limit, start_of(cursor), flagged=await reads.flagged(month)
    )
    return CreatorPage.with_lag(lag, **creator_page(month, limit, ranks))
