"""The member's own door: flattrs, split, statements and everything else about the member who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Concatenate, Final, Literal, ParamSpec, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from ingest.contract.month import month_of, month_text
from ingest.runtime.aliases import AliasTable, thing_ids
from warehouse.api import cursor as cursors
from warehouse.api import member_auth
from warehouse.api.member_auth import Member
from warehouse.api.problems import RESPONSES, Problem, ReadReason
from warehouse.api.query_runner import NO_MONTH, QueryRunner, Runner
from warehouse.api.request_guard import HEADERS_ONLY
from warehouse.api.routes.counters import Addresses, Creators, Things, named_things, parse_things
from warehouse.api.routes.months import closed
from warehouse.api.routes.provisional import MemberProvisional, member_provisional
from warehouse.api.shapes import AsOf, QueryMonth, moment, parse_month
from warehouse.counts import member_flattrs
from warehouse.counts.counts import shown
from warehouse.counts.lag import Lag
from warehouse.counts.member_flattrs import ALL_MONTHS, Flattr, Recorded
from warehouse.payout import month_status
from warehouse.payout.books import member_months, statements
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse
from warehouse.subscriptions import standing
from warehouse.subscriptions.standing import Subscription

router = APIRouter(prefix="/v1/me", tags=["me"], responses={**RESPONSES, **member_auth.RESPONSES})

P = ParamSpec("P")
T = TypeVar("T")
#: Nothing of a member's may stay in a cache, where the next member of this browser would find it.
PRIVATE: Final = {"Cache-Control": "no-store"}
#: A statement is a page with a style of its own, and nothing else.
_STATEMENT: Final = {
    **PRIVATE,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_MEDIA: Final = {"json": "application/json", "csv": "text/csv", "html": "text/html"}
_EXPORT_PAGE: Final = 10_000
_NOT_INCLUDED: Final = (
    "The mandate and the debits at the bank, and refused clicks, are not in this file: ask the platform for them."
)

Limit = Annotated[int, Query(ge=1, le=500, description="flattrs on a page")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before")]


class MyState(AsOf):
    """What the member did about things, by thing id. In quarantine or not: it is the member's last word."""

    month: str = Field(examples=["2026-11"])
    member_id: str = Field(examples=["m-1"])
    things: list[str] = Field(description="the ids in the order asked", examples=[["9f86d081884c7d659a2feaa0c55ad015"]])
    flattred: dict[str, bool] = Field(examples=[{"9f86d081884c7d659a2feaa0c55ad015": True}])
    subscribed: dict[str, bool] = Field(examples=[{"9f86d081884c7d659a2feaa0c55ad015": False}])


class FlattrLine(BaseModel):
    """One flattr that stands."""

    month: str = Field(examples=["2026-11"])
    thing_id: str
    creator_id: str
    thing: str = Field(description="its canonical address, or its id")
    clicked_at: datetime
    site_id: str = Field(description="where it was clicked; empty if unknown")


class MyFlattrs(AsOf):
    """One page of the member's flattrs, newest first."""

    month: str | None = Field(description="null in the list of all months", examples=["2026-11"])
    member_id: str = Field(examples=["m-1"])
    next: str | None = Field(description="cursor of the next page; null on the last")
    flattrs: list[FlattrLine]
    archived: list[str] = Field(description="months that are archived, and so are not in the list", examples=[[]])


async def in_turn(
    reads: QueryRunner,
    member_id: str,
    query: Callable[Concatenate[Warehouse, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a query whose size a member decides: one at a time, by member in turn."""
    async with reads.member_lane.turn(member_id):
        return await reads.run(query, *args, **kwargs)


def private(body: object) -> Response:
    """200 with the body as JSON, for nobody's cache."""
    return Response(msgspec.json.encode(body), media_type="application/json", headers=PRIVATE)


@router.get("/flattrs", summary="Whether I flattred things, or all that I flattred", response_model=MyState | MyFlattrs)
async def flattrs(  # noqa: PLR0913, PLR0917 - one parameter each of the address
    reads: Runner,
    member_id: Member,
    month: QueryMonth,
    things: Things = None,
    creators: Creators = [],  # noqa: B006 - FastAPI copies it
    addresses: Addresses = [],  # noqa: B006 - as above
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Of up to 100 things, named as for `/v1/counters`; without any, this month's list, newest first."""
    if things is None and not creators and not addresses:
        return await _listed(reads, member_id, month, limit, cursor)
    # Each thing's id first, and after it those that it had before it moved.
    asked = (
        named_things(reads, creators, addresses, month, thing_ids)
        if things is None
        else [[thing_id] for thing_id in parse_things(things)]
    )
    lag, found = await reads.lag(), {names[0]: member_flattrs.NOTHING for names in asked}
    if await reads.asked_of(month) != NO_MONTH:
        keys = dict.fromkeys(member_flattrs.key(member_id, name) for names in asked for name in names)
        counted = await reads.standings.get(month, keys, member_id)
        lag = min((one.lag for one in counted.values()), key=lambda lag: lag.now_ms)
        found = {
            names[0]: member_flattrs.of_names(counted[member_flattrs.key(member_id, name)].count for name in names)
            for names in asked
        }
    return private(
        {
            "month": month_text(month),
            "member_id": member_id,
            "things": [names[0] for names in asked],
            "flattred": {thing_id: one.flattred for thing_id, one in found.items()},
            "subscribed": {thing_id: one.subscribed for thing_id, one in found.items()},
            **AsOf.plain(replace(lag, now_ms=reads.clock())),
        }
    )


async def flattrs_page(
    reads: QueryRunner, member_id: str, month: int | None, limit: int, cursor: str | None
) -> tuple[Lag, list[Flattr], str | None]:
    """One page of a member's flattrs of a month, or of all months, with the cursor of the next one."""
    after = member_flattrs.START if cursor is None else cursors.decode(cursor, cursors.PLACE)
    months = ALL_MONTHS if month is None else (month, month)
    lag = await reads.lag()
    found = await in_turn(reads, member_id, member_flattrs.page, member_id, months, limit, after)
    return lag, found, cursors.encode(found[-1].place) if len(found) == limit else None


async def _listed(reads: QueryRunner, member_id: str, month: int | None, limit: int, cursor: str | None) -> Response:
    lag, found, following = await flattrs_page(reads, member_id, month, limit, cursor)
    return private(
        {
            "month": None if month is None else month_text(month),
            "member_id": member_id,
            "next": following,
            "flattrs": [_line(flattr) for flattr in found],
            "archived": await reads.archived_names() if month is None else [],
            **AsOf.plain(lag),
        }
    )


def _line(flattr: Flattr) -> dict[str, Any]:
    return {
        "month": month_text(flattr.month),
        "thing_id": flattr.thing_id,
        "creator_id": flattr.creator_id,
        "thing": flattr.thing,
        "clicked_at": moment(flattr.clicked_at_ms),
        "site_id": flattr.site_id,
    }


@router.get("/history", summary="All that I ever flattred", response_model=MyFlattrs)
async def history(
    reads: Runner,
    member_id: Member,
    month: Annotated[str | None, Query(description="YYYY-MM in UTC; without it, all months")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Newest first. What was taken back is in the export alone."""
    one = None if month is None else await reads.present(parse_month(month))
    return await _listed(reads, member_id, one, limit, cursor)


@router.get("/provisional", summary="My split if the month ended now", response_model=MemberProvisional)
async def provisional(reads: Runner, response: Response, member_id: Member, month: QueryMonth) -> MemberProvisional:
    """Computed with the close's own method."""
    response.headers.update(PRIVATE)
    return await member_provisional(reads, member_id, month)


@router.get("/statement", summary="Where my pledge of a closed month went", response_model=None)
async def statement(
    reads: Runner,
    member_id: Member,
    month: Annotated[str | None, Query(description="YYYY-MM; without it, the newest closed month")] = None,
    form: Annotated[Literal["json", "csv", "html"], Query()] = "json",
) -> Response:
    """Pool, flattrs, remainders, shares and the clicks behind them: everything needed to check it by hand."""
    sealed = await closed(reads, await _newest_closed(reads) if month is None else parse_month(month))
    try:
        found = await in_turn(reads, member_id, statements.member_statement, sealed, member_id)
    except PayoutRefused as missing:
        raise Problem(HTTPStatus.NOT_FOUND, ReadReason.LINE_UNKNOWN, str(missing)) from None
    return Response(statements.render(found, form), media_type=_MEDIA[form], headers=_STATEMENT)


async def _newest_closed(reads: QueryRunner) -> int:
    known = await reads.run(month_status.months)
    newest = max((month for month, is_closed in known if is_closed), default=None)
    if newest is None:
        raise Problem(HTTPStatus.NOT_FOUND, ReadReason.MONTH_NOT_CLOSED, "no month is closed yet")
    return newest


class SubscriptionLine(BaseModel):
    """One subscription that stands."""

    thing_id: str
    creator_id: str
    thing: str
    begun_at: datetime
    until: str | None = Field(description="the last month; null if none is named", examples=["2027-03"])


class MySubscriptions(AsOf):
    """The member's subscriptions that stand now, by creator and thing."""

    member_id: str = Field(examples=["m-1"])
    subscriptions: list[SubscriptionLine]
    more: bool = Field(description="whether there are more than `limit`")
    next: str | None = Field(description="cursor of the next page; null on the last")


def subscriptions_of(  # noqa: PLR0913, PLR0917 - each narrows what is asked for
    warehouse: Warehouse, member_id: str, now_ms: int, table: AliasTable, limit: int, after: standing.Place
) -> list[Subscription]:
    """A member's subscriptions that stand now, at most ``limit``; their things as they were first sent."""
    month = month_of(now_ms)
    found = standing.standing(warehouse, month, at_ms=now_ms, member_id=member_id, table=table, page=limit, after=after)
    return [subscription for subscription, _ in islice(found, limit)]


async def subscriptions_page(
    reads: QueryRunner, member_id: str, limit: int, cursor: str | None = None
) -> tuple[list[Subscription], str | None]:
    """A page of the same, one member's at a time, by where things are now, and the cursor of the next one."""
    after = standing.START if cursor is None else (member_id, *cursors.decode(cursor, cursors.SUBSCRIPTION))
    now_ms = reads.clock()
    table = reads.aliases.look().in_month(month_of(now_ms))
    found = await in_turn(reads, member_id, subscriptions_of, member_id, now_ms, table, limit + 1, after)
    page = found[:limit]
    return page, cursors.encode(page[-1].place[1:]) if len(found) > limit else None


def _subscription(line: Subscription) -> dict[str, Any]:
    return {
        "thing_id": line.thing_id,
        "creator_id": line.creator_id,
        "thing": shown(line.thing),
        "begun_at": moment(line.begun_ms),
        "until": month_text(line.last_month) if line.last_month else None,
    }


@router.get("/subscriptions", summary="What I flattr every month", response_model=MySubscriptions)
async def subscriptions(
    reads: Runner, member_id: Member, limit: Annotated[int, Query(ge=1, le=1000)] = 1000, cursor: Cursor = None
) -> Response:
    """Those that stand. They begin and end by clicks."""
    lag = await reads.lag()
    found, following = await subscriptions_page(reads, member_id, limit, cursor)
    return private(
        {
            "member_id": member_id,
            "subscriptions": [_subscription(line) for line in found],
            "more": following is not None,
            "next": following,
            **AsOf.plain(lag),
        }
    )


@router.get("/export", summary="All data about me, as one file", response_class=Response)
async def export(request: Request, reads: Runner, member_id: Member) -> Response:
    """Flattrs (taken-back ones too), pledges and closed months, as JSON. Money in micro-units."""
    headers = {**PRIVATE, "Content-Disposition": 'attachment; filename="flattr-export.json"'}
    if HEADERS_ONLY in request.scope:
        return Response(media_type="application/json", headers=headers)
    # Asked before the answer begins, so that an outage is still a 503.
    lag = await reads.lag()
    head = {
        "member_id": member_id,
        "exported_at": moment(reads.clock()),
        **AsOf.plain(lag),
        "not_included": _NOT_INCLUDED,
        "archived_months": await reads.archived_names(),
        "subscriptions": [_subscription(line) for line in await _all_subscriptions(reads, member_id)],
        "pledges": [
            {**asdict(line), "month": month_text(line.month)}
            for line in await in_turn(reads, member_id, member_months.pledges, member_id)
        ],
        "closed_months": [
            {
                **asdict(line),
                "month": month_text(line.month),
                "shares": [
                    {"creator_id": creator_id, "flattrs": flattrs, "share_micro": micro}
                    for creator_id, flattrs, micro in line.shares
                ],
            }
            for line in await in_turn(reads, member_id, member_months.closed_months, member_id)
        ],
    }
    return StreamingResponse(_export(reads, member_id, head), media_type="application/json", headers=headers)


async def _all_subscriptions(reads: QueryRunner, member_id: str) -> list[Subscription]:
    found, following = await subscriptions_page(reads, member_id, _EXPORT_PAGE)
    while following is not None:
        page, following = await subscriptions_page(reads, member_id, _EXPORT_PAGE, following)
        found += page
    return found


async def _export(reads: QueryRunner, member_id: str, head: dict[str, Any]) -> AsyncIterator[bytes]:
    """The file in pieces: the head's fields, then all flattrs, a page at a time, so that memory is bounded."""
    yield msgspec.json.encode(head)[:-1] + b',"flattrs":['
    last: Recorded | None = None
    while True:
        found = await in_turn(reads, member_id, member_flattrs.recorded, member_id, _EXPORT_PAGE, last)
        lines = [
            msgspec.json.encode({**_line(flattr), "click_id": flattr.click_id, "stands": flattr.stands})
            for flattr in found
        ]
        if lines:
            yield (b"," if last else b"") + b",\n".join(lines)
            last = found[-1]
        if len(found) < _EXPORT_PAGE:
            break
    yield b"]}\n"
