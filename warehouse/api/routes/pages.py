"""The server-rendered pages: live, member, months, the API's routes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from ingest.contract.month import month_of, month_text
from ingest.contract.names import ID_LENGTH_MAX
from warehouse.api import auth, formatting, templates
from warehouse.api.live_poller import TOP_LINES
from warehouse.api.query_runner import Runner
from warehouse.api.routes.sign_in import enter, reader_of
from warehouse.api.shapes import MemberId, PathMonth, QueryMonth
from warehouse.counts import rankings
from warehouse.keys import Role
from warehouse.payout import estimate, month_status
from warehouse.payout.close.gate import Tallies, read_tallies
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.stages import Stage
from warehouse.payout.closed_months import top_payouts
from warehouse.payout.month_desk import read_desk
from warehouse.payout.month_status import MonthFacts, State

router = APIRouter(include_in_schema=False)

_FATE_COLOURS: Final = {"counted": "leaf", "duplicate": "sky", "undo": "plum", "rejected": "berry", "late": "sun"}
_PAYOUTS: Final = 50


def fates(tallies: Tallies) -> list[tuple[str, int, str, str]]:
    """What became of accepted clicks, as the terms of a bar: (name, amount, colour, text)."""
    amounts = tallies.as_dict()
    return [(name, amounts[name], colour, formatting.number(amounts[name])) for name, colour in _FATE_COLOURS.items()]


@router.get("/")
async def live(request: Request, reads: Runner) -> Response:
    """The live page. Public, like the stream behind it."""
    month = month_of(reads.clock())
    (lag, tallies), (_, total), (_, creators), (_, things), (_, pot) = await asyncio.gather(
        reads.keep(read_tallies, month),
        reads.keep(rankings.month_total, month, flagged=await reads.flagged(month)),
        reads.keep(rankings.top_creators, month, TOP_LINES, flagged=await reads.flagged(month)),
        reads.keep(rankings.top_things, month, TOP_LINES, flagged=await reads.flagged(month)),
        reads.keep_longer(estimate.month_money, month, reads.rules),
    )
    return templates.page(
        "live.html",
        here="/",
        reader=reader_of(request),
        links=reads.keys is None or reads.settings.api_public or auth.known(request, reads),
        operates=auth.may(request, reads, Role.OPERATOR),
        month_name=formatting.month_name(month),
        lag=lag,
        tallies=tallies,
        total=total,
        fates=fates(tallies),
        creators=creators,
        things=things,
        pot=pot,
        currency=reads.rules.close_currency,
    )


@router.get("/members/{member_id:path}")
async def member(request: Request, reads: Runner, member_id: MemberId, month: QueryMonth) -> Response:
    """A member's provisional split."""
    await enter(request, reads, Role.FINANCE)
    lag, split = await reads.keep(
        estimate.member_split, month, member_id, reads.rules, flagged=await reads.flagged(month)
    )
    return templates.page(
        "member.html",
        reader=reader_of(request),
        member_id=member_id,
        month_name=formatting.month_name(month),
        lag=lag,
        split=split,
        flattrs=sum(share.flattrs for share in split.shares),
        noclick=reads.rules.close_noclick,
        currency=reads.rules.close_currency,
    )


@router.get("/months")
async def months(request: Request, reads: Runner) -> Response:
    """All months with flattrs or a seal."""
    await enter(request, reads, Role.FINANCE)
    known = await reads.run(month_status.months)
    lines = [(month_text(month), formatting.month_name(month), closed) for month, closed in known]
    return templates.page("months.html", here="/months", reader=reader_of(request), months=lines)


@router.get("/months/{month}")
async def month_end(
    request: Request,
    reads: Runner,
    month: PathMonth,
    part: Annotated[str | None, Query(pattern="^status$")] = None,
    find: Annotated[str, Query(max_length=ID_LENGTH_MAX)] = "",
) -> Response:
    """Where a month stands; ``part=status`` is the fragment that the page refreshes, ``find`` searches the ledger."""
    await enter(request, reads, Role.FINANCE)
    lag = await reads.lag()
    facts = await reads.run(month_status.read_facts, month, reads.rules)
    payouts = [] if facts.proof is None else await reads.run(top_payouts, month, _PAYOUTS)
    state = month_status.state_of(facts)
    checks = month_status.checks(month, facts, lag, reads.rules)
    desk = None if part else await reads.run(read_desk, month, facts.proof, find)
    answer = templates.page(
        "month_status.html" if part else "month.html",
        here="/months",
        reader=reader_of(request),
        month_text=month_text(month),
        month_name=formatting.month_name(month),
        state=state.value,
        archived=month in await reads.archived(),
        is_empty=facts.is_empty,
        can_close=all(check.passed is not False for check in checks) and lag.partitions != (),
        done=facts.stages,
        stages=stage_lines(facts, state),
        checks=checks,
        tallies=facts.tallies,
        fates=fates(facts.tallies),
        proof=facts.proof,
        terms=[] if facts.proof is None else proof_terms(facts.proof),
        payouts=payouts,
        desk=desk,
        search=find,
    )
    answer.headers["X-State"] = state.value
    return answer


def stage_lines(facts: MonthFacts, state: State) -> list[dict[str, str]]:
    """The five stages: what each does, or when it was done."""
    meaning = {
        Stage.GATE: "is everything in?",
        Stage.COMPUTE: "divide every pool",
        Stage.CHECK: "does it balance?",
        Stage.PUBLISH: "replace the month's tables",
        Stage.SEAL: "make it final",
    }
    done = {line.stage: line.done_at_ms for line in facts.stages}
    next_stage = next((stage for stage in Stage if stage not in done), None)
    lines = []
    for stage, text in meaning.items():
        if stage in done:
            kind, text = "done", f"done {formatting.moment(done[stage])}"  # noqa: PLW2901 - the line's own text
        else:
            kind = "now" if state is State.CLOSING and stage is next_stage else ""
        lines.append({"name": stage.value.capitalize(), "kind": kind, "text": text})
    return lines


def proof_terms(proof: Proof) -> list[tuple[str, int, str, str]]:
    """Where the money went, as the terms of a bar: (name, micro-units, colour, text)."""
    return [
        (name, micro, _COLOURS[name], formatting.money(micro, proof.currency, exact=True))
        for name, micro in proof.terms.items()
    ]


_COLOURS: Final = {
    "paid": "leaf", "fee": "sky", "held": "sun", "carried": "plum", "charity": "berry", "charged back": "berry",
}  # fmt: skip


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API's routes, from its OpenAPI document."""
    return templates.page("docs.html", here="/docs", reader=reader_of(request), groups=documented(request.app))


def documented(app: FastAPI) -> list[tuple[str, list[dict[str, Any]]]]:
    """Routes by tag, with their parameters and the role that they need."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            line = {
                "path": path,
                "summary": operation["summary"],
                "description": operation.get("description", ""),
                "parameters": [parameter["name"] for parameter in operation.get("parameters", ())],
                "role": operation.get("x-role", "public"),
            }
            groups.setdefault(operation["tags"][0], []).append(line)
    return list(groups.items())


@router.get("/page/{name}")
async def file(name: str, v: str = "") -> Response:
    """Style sheets and scripts."""
    found = templates.file_response(name, v)
    return found or templates.page("message.html", status=404, title="Not Found", detail="There is no such file.")
