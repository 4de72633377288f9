"""Pages of counts: lists of creators and things, a creator, a thing. Public where the operator allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from ingest.contract.month import month_after, month_before, month_of, month_text
from ingest.contract.names import ID_LENGTH_MAX
from warehouse.api import auth, cursor, formatting, templates
from warehouse.api.auth import Need
from warehouse.api.problems import Problem
from warehouse.api.query_runner import STRANGER, QueryRunner, Runner
from warehouse.api.routes.lists import Cursor, start_of
from warehouse.api.routes.series import months_of
from warehouse.api.routes.sign_in import enter, reader_of
from warehouse.api.shapes import CreatorId, QueryMonth, ThingId
from warehouse.counts import rankings, series
from warehouse.counts.rankings import ThingRank
from warehouse.counts.series import Interval, Point
from warehouse.keys import Role
from warehouse.payout import estimate

router = APIRouter(include_in_schema=False)

_LINES: Final = 50
_THINGS: Final = 10

Find = Annotated[str, Query(max_length=ID_LENGTH_MAX, description="the beginning of a creator's id")]


@router.get("/creators")
async def creators(request: Request, reads: Runner, month: QueryMonth, q: Find = "", cursor: Cursor = None) -> Response:
    """A month's creators, most flattrs first; with ``q`` those whose id begins so, by name."""
    await enter(request, reads, Role.DASHBOARD, public=True)
    flagged = await reads.flagged(month)
    if q:
        lag, ranks = await reads.keep(
            rankings.creators_by_prefix, month, q, _LINES, start_of(cursor)[1], flagged=flagged
        )
    else:
        lag, ranks = await reads.keep(rankings.top_creators, month, _LINES, start_of(cursor), flagged=flagged)
    return templates.page(
        "creators.html",
        here="/creators",
        reader=reader_of(request),
        lag=lag,
        q=q,
        lines=ranks,
        largest=max((rank.flattrs for rank in ranks), default=0),
        next=_following(month, [(rank.flattrs, rank.creator_id) for rank in ranks], _LINES, q=q),
        **await _months_beside(reads, month),
    )


@router.get("/things")
async def things(request: Request, reads: Runner, month: QueryMonth, cursor: Cursor = None) -> Response:
    """A month's things, most flattrs first."""
    await enter(request, reads, Role.DASHBOARD, public=True)
    lag, ranks = await reads.keep(
        rankings.top_things, month, _LINES, start_of(cursor), flagged=await reads.flagged(month)
    )
    return templates.page(
        "things.html",
        here="/things",
        reader=reader_of(request),
        lag=lag,
        lines=ranks,
        next=_following(month, [(rank.flattrs, rank.thing_id) for rank in ranks], _LINES),
        **await _months_beside(reads, month),
    )


@router.get("/creators/{creator_id:path}")
async def creator(
    request: Request, reads: Runner, creator_id: CreatorId, month: QueryMonth, cursor: Cursor = None
) -> Response:
    """A creator's month, with a chart of its days; the money in it only for keys."""
    await enter(request, reads, Role.DASHBOARD, public=True)
    has_key = _has_key(request, reads)
    flagged = await reads.flagged(month)
    (lag, hours), (_, ranks), counted, (_, by_month) = await asyncio.gather(
        reads.keep(series.creator_hours, month, creator_id, flagged=flagged),
        reads.keep(rankings.creator_things, month, creator_id, _THINGS, start_of(cursor), flagged=flagged),
        reads.creators.get(month, [creator_id], STRANGER.get()),
        months_of(reads, series.creator_months, creator_id),
    )
    take = None
    if has_key:
        _, take = await reads.keep_longer(estimate.creator_take, month, creator_id, reads.rules, flagged=flagged)
    return templates.page(
        "creator.html",
        reader=reader_of(request),
        creator_id=creator_id,
        lag=lag,
        flattrs=counted[creator_id].count.flattrs,
        quarantined=counted[creator_id].count.quarantined if has_key else 0,
        take=take,
        things=ranks,
        next=_following(month, [(rank.flattrs, rank.thing_id) for rank in ranks], _THINGS),
        by_month=by_month,
        archived=await reads.archived_names(),
        currency=reads.rules.close_currency,
        **_days(reads, month, hours),
        **await _months_beside(reads, month),
    )


@router.get("/things/{thing_id}")
async def thing(request: Request, reads: Runner, thing_id: ThingId, month: QueryMonth) -> Response:
    """A thing's month, with a chart of its days."""
    await enter(request, reads, Role.DASHBOARD, public=True)
    (lag, hours), counted, (_, by_month) = await asyncio.gather(
        reads.keep(series.thing_hours, month, thing_id, flagged=await reads.flagged(month)),
        reads.things.get(month, [thing_id], STRANGER.get()),
        months_of(reads, series.thing_months, thing_id),
    )
    found = counted[thing_id].count
    if found.of is None:
        detail = "Nobody ever flattred a thing of this id."
        return templates.page("message.html", status=HTTPStatus.NOT_FOUND, title="Not Found", detail=detail)
    return templates.page(
        "thing.html",
        reader=reader_of(request),
        thing=ThingRank(thing_id, found.flattrs, found.of.creator_id, found.of.thing),
        lag=lag,
        by_month=by_month,
        archived=await reads.archived_names(),
        **_days(reads, month, hours),
        **await _months_beside(reads, month),
    )


def _has_key(request: Request, reads: QueryRunner) -> bool:
    """Whether the reader may see what is not public of this page."""
    try:
        auth.check(request, reads, Need(Role.DASHBOARD), request.path_params)
    except Problem:
        return False
    return True


def _days(reads: QueryRunner, month: int, hours: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """What the chart of a month's days is drawn from."""
    points = series.fill(hours, month, Interval.DAY, reads.clock())
    days = len(series.fill([], month, Interval.DAY, 1 << 50))
    best: Point | None = max(points, key=lambda point: point.flattrs, default=None)
    summary = f"{len(points)} days"
    if best is not None and best.flattrs:
        summary += f"; most on {formatting.day(best.at_ms)}: {formatting.number(best.flattrs)}"
    return {"points": points, "chart": formatting.day_chart(points, days), "summary": summary}


async def _months_beside(reads: QueryRunner, month: int) -> dict[str, Any]:
    """The month of a page, and those that it links to.

    They are the one before, if any before it has data, and the one after, unless that is to come.
    """
    current = month_of(reads.clock())
    before = month_before(month) if any(known < month for known in await reads.known_months()) else None
    after = month_after(month) if month < current else None
    return {
        "month": month_text(month),
        "month_name": formatting.month_name(month),
        "current": month == current,
        "beside": [None if one is None else (month_text(one), formatting.month_name(one)) for one in (before, after)],
    }


def _following(month: int, places: Sequence[tuple[int, str]], limit: int, **more: str) -> str | None:
    """The query of the next page; None on the last."""
    if len(places) < limit:
        return None
    given = {name: value for name, value in more.items() if value}
    return urlencode({"month": month_text(month), **given, "cursor": cursor.encode(places[-1])})
