"""Estimates: the money of a member or creator if the month ended now."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ingest.contract.month import month_text
from warehouse.api import auth
from warehouse.api.problems import RESPONSES
from warehouse.api.query_runner import Runner
from warehouse.api.shapes import AsOf, CreatorId, MemberId, QueryMonth
from warehouse.keys import Role
from warehouse.payout import estimate

router = APIRouter(prefix="/v1", tags=["provisional"], responses={**RESPONSES, **auth.RESPONSES})


class Provisional(AsOf):
    """An estimate, which changes with every flattr until the month is closed."""

    month: str = Field(examples=["2026-11"])
    currency: str = Field(examples=["EUR"])


class ShareBody(BaseModel):
    """What one creator would get."""

    creator_id: str
    flattrs: int
    share_micro: int = Field(description="millionths of the currency", examples=[360000])


class MemberProvisional(Provisional):
    """pledge - fee + carried_in = pool = the sum of the shares, in micro-units."""

    member_id: str
    pledge_micro: int = Field(description="0 until it is paid", examples=[2000000])
    fee_micro: int
    carried_in_micro: int = Field(description="from months without flattrs")
    pool_micro: int
    shares: list[ShareBody] = Field(description="largest first")


class CreatorProvisional(Provisional):
    """A creator's take from all pools, before carries and holds."""

    creator_id: str
    members: int
    flattrs: int
    earned_micro: int = Field(description="rounded down per member, so low by less than one micro-unit each")


@router.get(
    "/members/{member_id:path}/provisional",
    summary="A member's split if the month ended now",
    dependencies=[auth.needs(Role.FINANCE)],
)
async def member_provisional(reads: Runner, member_id: MemberId, month: QueryMonth) -> MemberProvisional:
    """Computed with the close's own method."""
    lag, found = await reads.keep(
        estimate.member_split, month, member_id, reads.rules, flagged=await reads.flagged(month)
    )
    return MemberProvisional.with_lag(
        lag,
        month=month_text(month),
        currency=reads.rules.close_currency,
        member_id=member_id,
        pledge_micro=found.pledge_micro,
        fee_micro=found.fee_micro,
        carried_in_micro=found.carried_in_micro,
        pool_micro=found.pool_micro,
        shares=[vars(share) for share in found.shares],
    )


@router.get(
    "/creators/{creator_id:path}/provisional",
    summary="A creator's take if the month ended now",
    dependencies=[auth.needs(Role.DASHBOARD)],
)
async def creator_provisional(reads: Runner, creator_id: CreatorId, month: QueryMonth) -> CreatorProvisional:
    """Cached for `FLATTR_API_MONEY_TTL_MS`, because it adds up every supporter's pool."""
    lag, take = await reads.keep_longer(
        estimate.creator_take, month, creator_id, reads.rules, flagged=await reads.flagged(month)
    )
    return CreatorProvisional.with_lag(
        lag,
        month=month_text(month),
        currency=reads.rules.close_currency,
        creator_id=creator_id,
        members=take.members,
        flattrs=take.flattrs,
        earned_micro=take.earned_micro,
    )
