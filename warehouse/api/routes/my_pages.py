"""A member's own pages: this month, all that was ever flattred, closed months."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, Request, Response

from ingest.contract.month import month_of, month_text
from warehouse.api import formatting, templates
from warehouse.api.query_runner import Runner
from warehouse.api.routes.lists import Cursor
from warehouse.api.routes.me import flattrs_page, in_turn, subscriptions_of
from warehouse.api.routes.sign_in import MEMBER_PAGE, enter_as_member
from warehouse.payout import estimate
from warehouse.payout.books import member_months

router = APIRouter(include_in_schema=False)

_RECENT: Final = 20
_LINES: Final = 50
_MONTHS: Final = 24


@router.get(MEMBER_PAGE)
async def me(request: Request, reads: Runner) -> Response:
    """This month's flattrs and split, and the statements of closed months."""
    member_id = enter_as_member(request, reads)
    month = month_of(reads.clock())
    flagged = await reads.flagged(month)
    (lag, split), (_, recent, following), standing, closed = await asyncio.gather(
        reads.keep(estimate.member_split, month, member_id, reads.rules, flagged=flagged),
        flattrs_page(reads, member_id, month, _RECENT, None),
        in_turn(reads, member_id, subscriptions_of, member_id, reads.clock(), _LINES),
        in_turn(reads, member_id, member_months.closed_months, member_id, _MONTHS),
    )
    return templates.page(
        "me.html",
        here=MEMBER_PAGE,
        reader="member",
        member_id=member_id,
        month_name=formatting.month_name(month),
        lag=lag,
        split=split,
        flattrs=recent,
        subscriptions=standing,
        more=following is not None,
        counted=sum(share.flattrs for share in split.shares),
        closed=[(month_text(line.month), formatting.month_name(line.month), line) for line in closed],
        noclick=reads.rules.close_noclick,
        currency=reads.rules.close_currency,
        links=reads.settings.api_public or reads.keys is None,
    )


@router.get(f"{MEMBER_PAGE}/flattrs")
async def my_flattrs(request: Request, reads: Runner, cursor: Cursor = None) -> Response:
    """All that the member ever flattred, newest first."""
    member_id = enter_as_member(request, reads)
    _, found, following = await flattrs_page(reads, member_id, None, _LINES, cursor)
    return templates.page(
        "my_flattrs.html",
        here=MEMBER_PAGE,
        reader="member",
        member_id=member_id,
        flattrs=found,
        archived=await reads.archived_names(),
        next=following,
        links=reads.settings.api_public or reads.keys is None,
    )
