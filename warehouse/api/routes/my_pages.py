"""A member's own pages: this month, all that was ever flattred, closed months."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import accumulate, repeat
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from ingest.contract.month import month_after, month_of, month_text
from ingest.runtime.aliases import thing_id
from warehouse.api import formatting, member_auth, templates
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.routes.lists import Cursor
from warehouse.api.routes.me import flattrs_page, in_turn, subscriptions_page
from warehouse.api.routes.sign_in import MEMBER_PAGE, enter_as_member, form_of, from_own_page, see
from warehouse.api.subscription_change import END, FOR_EVER, Said, choices, clicks, send
from warehouse.counts import member_flattrs
from warehouse.counts.counts import shown
from warehouse.payout import estimate
from warehouse.payout.books import member_months
from warehouse.subscriptions.standing import Subscription

router = APIRouter(include_in_schema=False)

_RECENT: Final = 20
_LINES: Final = 50
_MONTHS: Final = 24
#: Among how many, from the page's first one on, a change looks for its own.
_SUBSCRIPTIONS_MAX: Final = 1000


@dataclass(frozen=True)
class Repeated:
    """A subscription as the page shows it, its thing by the canonical address.

    With it: whether this month's flattr stands, and what can be chosen as the last month.
    """

    line: Subscription
    stands: bool
    choices: list[tuple[str, int]]


@router.get(MEMBER_PAGE)
async def me(
    request: Request,
    reads: Runner,
    said: Annotated[Said | None, Query(description="of the last change")] = None,
    cursor: Cursor = None,
) -> Response:
    """This month's flattrs and split, a page of the subscriptions, and the statements of closed months."""
    session = enter_as_member(request, reads)
    member_id = session.subject
    month = month_of(reads.clock())
    flagged = await reads.flagged(month)
    (lag, split), (_, recent, following), (standing, next_subscriptions), closed = await asyncio.gather(
        reads.keep(estimate.member_split, month, member_id, reads.rules, flagged=flagged),
        flattrs_page(reads, member_id, month, _RECENT, None),
        subscriptions_page(reads, member_id, _LINES, cursor),
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
        subscriptions=await _repeated(reads, member_id, month, standing),
        cursor=cursor,
        next_subscriptions=next_subscriptions,
        may_change=member_auth.token_of(request, reads, session) is not None,
        for_ever=FOR_EVER,
        end=END,
        said=said,
        more=following is not None,
        counted=sum(share.flattrs for share in split.shares),
        closed=[(month_text(line.month), formatting.month_name(line.month), line) for line in closed],
        noclick=reads.rules.close_noclick,
        currency=reads.rules.close_currency,
        links=reads.settings.api_public or reads.keys is None,
    )


async def _repeated(reads: QueryRunner, member_id: str, month: int, lines: list[Subscription]) -> list[Repeated]:
    months = list(accumulate(repeat(month, _MONTHS), lambda last, _: month_after(last)))
    table = reads.aliases.look().in_month(month)
    # A change names the thing by its address, so what stands is asked of where the thing is now.
    now = [thing_id(line.creator_id, line.thing, table) if line.thing else line.thing_id for line in lines]
    names = [member_flattrs.key(member_id, one) for one in now]
    found = await reads.standings.get(month, names, member_id) if names else {}
    return [
        Repeated(replace(line, thing=shown(line.thing)), found[name].count.flattred, choices(line, months))
        for line, name in zip(lines, names, strict=True)
    ]


@router.post(f"{MEMBER_PAGE}/subscriptions")
async def change_subscription(request: Request, reads: Runner) -> Response:
    """End a subscription or choose its last month: sent to ingest as the member's clicks, as the button does."""
    session = enter_as_member(request, reads)
    token, form = member_auth.token_of(request, reads, session), await form_of(request)
    if token is None or form is None or not from_own_page(request):
        return see(f"{MEMBER_PAGE}?said={Said.REFUSED}#subscriptions")
    member_id = session.subject
    # Behind the same place as what the page showed: what was ended in between moves nothing out of reach.
    cursor = form.get("cursor") or None
    lines, _ = await subscriptions_page(reads, member_id, _SUBSCRIPTIONS_MAX, cursor)
    line = next((one for one in lines if one.thing_id == form.get("thing")), None)
    said = Said.REFUSED
    if line is not None:
        # What the page showed decides whether this month's flattr is to stay away.
        body = clicks(line, form.get("last", FOR_EVER), stands=form.get("stands") == "1")
        async with reads.change_lane.turn(member_id):
            said = await asyncio.to_thread(send, str(reads.settings.api_ingest), token, body)
    query = urlencode({"said": said} | ({"cursor": cursor} if cursor else {}))
    return see(f"{MEMBER_PAGE}?{query}#subscriptions")


@router.get(f"{MEMBER_PAGE}/flattrs")
async def my_flattrs(request: Request, reads: Runner, cursor: Cursor = None) -> Response:
    """All that the member ever flattred, newest first."""
    member_id = enter_as_member(request, reads).subject
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
