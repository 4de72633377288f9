"""Counts of a creator, a thing or a member, by month."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from fastapi import APIRouter, Response
from pydantic import Field

from ingest.contract.month import month_text
from warehouse.api import auth
from warehouse.api.problems import RESPONSES
from warehouse.api.query_runner import STRANGER, QueryRunner, Runner
from warehouse.api.shapes import AsOf, CreatorId, MemberId, QueryMonth, ThingId
from warehouse.counts.lag import Lag
from warehouse.keys import Role

router = APIRouter(prefix="/v1", tags=["counts"], responses={**RESPONSES, **auth.RESPONSES})


class QuarantinedBeside(AsOf):
    """Base of bodies that state the quarantine beside the count."""

    quarantined: int = Field(
        description="active flattrs in quarantine, which are left out of counts and payouts until released",
        examples=[0],
    )


class CreatorCounts(QuarantinedBeside):
    """A creator's month."""

    creator_id: str = Field(examples=["anna"])
    month: str = Field(examples=["2026-11"])
    flattrs: int = Field(description="one per member and thing", examples=[1284])


class ThingCounts(QuarantinedBeside):
    """A thing's month. ``creator_id`` and ``thing`` are null if nobody ever flattred it."""

    thing_id: str = Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])
    creator_id: str | None = Field(examples=["anna"])
    thing: str | None = Field(examples=["https://anna.example/songs/1"])
    month: str = Field(examples=["2026-11"])
    flattrs: int = Field(description="one per member", examples=[17])


class MemberCounts(QuarantinedBeside):
    """A member's month."""

    member_id: str = Field(examples=["m-1"])
    month: str = Field(examples=["2026-11"])
    flattrs: int = Field(description="things flattred", examples=[12])
    creators: int = Field(description="the number of their creators", examples=[5])


def _answer(reads: QueryRunner, lag: Lag, **values: object) -> Response:
    """Encode directly, since the framework would validate and copy the model field by field."""
    # A cached lag is as old as its reading; its age must be computed as of now.
    beside = AsOf.plain(replace(lag, now_ms=reads.clock()))
    return Response(msgspec.json.encode({**values, **beside}), media_type="application/json")


@router.get(
    "/creators/{creator_id:path}/counts",
    summary="Flattrs of a creator in a month",
    response_model=CreatorCounts,
    dependencies=[auth.needs(Role.DASHBOARD, public=True)],
)
async def creator_counts(reads: Runner, creator_id: CreatorId, month: QueryMonth) -> Response:
    """0 for a creator that nobody flattred; any valid id counts as a creator."""
    counted = (await reads.creators.get(month, [creator_id], STRANGER.get()))[creator_id]
    return _answer(
        reads,
        counted.lag,
        creator_id=creator_id,
        month=month_text(month),
        flattrs=counted.count.flattrs,
        quarantined=counted.count.quarantined,
    )


@router.get(
    "/things/{thing_id}/counts",
    summary="Flattrs of a thing in a month",
    response_model=ThingCounts,
    dependencies=[auth.needs(Role.DASHBOARD, public=True)],
)
async def thing_counts(reads: Runner, thing_id: ThingId, month: QueryMonth) -> Response:
    """The thing id is in the receipt of each of its clicks."""
    counted = (await reads.things.get(month, [thing_id], STRANGER.get()))[thing_id]
    known = counted.count.of
    return _answer(
        reads,
        counted.lag,
        thing_id=thing_id,
        creator_id=known and known.creator_id,
        thing=known and known.thing,
        month=month_text(month),
        flattrs=counted.count.flattrs,
        quarantined=counted.count.quarantined,
    )


@router.get(
    "/members/{member_id:path}/counts",
    summary="Flattrs of a member in a month",
    response_model=MemberCounts,
    dependencies=[auth.needs(Role.FINANCE)],
)
async def member_counts(reads: Runner, member_id: MemberId, month: QueryMonth) -> Response:
    """The flattrs by which the member's pool would be divided if the month ended now."""
    counted = (await reads.members.get(month, [member_id]))[member_id]
    return _answer(
        reads,
        counted.lag,
        member_id=member_id,
        month=month_text(month),
        flattrs=counted.count.flattrs,
        creators=counted.count.creators,
        quarantined=counted.count.quarantined,
    )
