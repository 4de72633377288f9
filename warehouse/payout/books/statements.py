"""Statements that can be checked by hand: a member's, and both kinds as JSON, CSV and pages.

Each line has the numbers of its own arithmetic: the exact share is pool times flattrs over all of the member's
flattrs; the share is that rounded down, plus one micro-unit if its remainder was among the largest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, dataclass, fields
from importlib import resources
from typing import Any, Literal

from ingest.contract.month import month_text
from warehouse.counts.counts import shown
from warehouse.payout.books.creator_statement import CreatorStatement, ThingLine
from warehouse.payout.close.proof import Proof
from warehouse.payout.csv_out import csv_pieces
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.money import as_text
from warehouse.storage.archived import refuse_archived
from warehouse.storage.client import Warehouse, named
from warehouse.subscriptions.standing import posted_click_id


@dataclass(frozen=True)
class ShareLine:
    """What one creator got of one member's pool."""

    member_id: str
    creator_id: str
    flattrs: int
    member_flattrs: int
    pool_micro: int
    rounded_down_micro: int
    remainder: int  # of the division, as a numerator over member_flattrs, in micro-units
    share_micro: int


@dataclass(frozen=True)
class ClickLine:
    """One flattr: the counted click and its thing."""

    creator_id: str
    thing: str
    click_id: str
    clicked_at: str
    by_subscription: bool


@dataclass(frozen=True)
class MemberStatement:
    """A member's month. pledge - fee + carried_in = pool = shares + charity + kept + carried_out."""

    month: str
    member_id: str
    currency: str
    pledge_micro: int
    fee_micro: int
    carried_in_micro: int
    pool_micro: int
    rule: str
    charity_micro: int
    kept_micro: int
    carried_out_micro: int
    flattrs: int
    taken_back: int
    shares: list[ShareLine]
    clicks: list[ClickLine]
    seal: str
    #: active flattrs that were left out of the split
    quarantined: int = 0


def member_statement(warehouse: Warehouse, proof: Proof, member_id: str) -> MemberStatement:
    """A member's statement of a closed month. Raises ``PayoutRefused`` if the member has no line in it."""
    refuse_archived(warehouse, proof.month)
    values = {"month": proof.month, "member_id": member_id}
    rows = warehouse.rows(named("payout_member"), values)
    if not rows:
        raise PayoutRefused(f"{month_text(proof.month)} has no line for member {member_id}: check month and member.")
    (currency, pledge, fee, carried_in, pool, rule, charity, retained, carried_out, counted, flattrs, *arrays) = rows[0]
    shares = [
        _share_line(member_id, creator, n, flattrs, pool if rule == "split" else 0, share)
        for creator, n, share in zip(*arrays, strict=True)
    ]
    clicks = warehouse.rows(named("payout_member_clicks"), values)
    return MemberStatement(
        month=month_text(proof.month),
        member_id=member_id,
        currency=currency,
        pledge_micro=pledge,
        fee_micro=fee,
        carried_in_micro=carried_in,
        pool_micro=pool,
        rule=rule,
        charity_micro=charity,
        kept_micro=retained,
        carried_out_micro=carried_out,
        flattrs=flattrs,
        taken_back=counted - flattrs,
        shares=shares,
        clicks=[
            ClickLine(
                creator_id,
                shown(thing),
                click_id,
                at,
                click_id == posted_click_id(member_id, creator_id, thing_id, proof.month),
            )
            for creator_id, thing, thing_id, click_id, at, quarantined in clicks
            if not quarantined
        ],
        seal=proof.seal,
        quarantined=sum(row[-1] for row in clicks),
    )


def _share_line(  # noqa: PLR0913, PLR0917 - the columns of a line
    member_id: str, creator_id: str, flattrs: int, of: int, pool_micro: int, share_micro: int
) -> ShareLine:
    rounded_down, remainder = divmod(pool_micro * flattrs, of)
    return ShareLine(member_id, creator_id, flattrs, of, pool_micro, rounded_down, remainder, share_micro)


def lines_csv(statement: MemberStatement | CreatorStatement) -> str:
    """A member's shares, or what a creator's things earned by day, as CSV, header first."""
    if isinstance(statement, MemberStatement):
        return "".join(csv_pieces([field.name for field in fields(ShareLine)], map(astuple, statement.shares)))
    return "".join(csv_pieces([field.name for field in fields(ThingLine)], map(astuple, statement.things)))


def render(statement: MemberStatement | CreatorStatement, form: Literal["json", "csv", "html"]) -> str:
    """The statement as JSON, CSV (its lines only) or HTML."""
    if form == "csv":
        return lines_csv(statement)
    return page(statement) if form == "html" else as_json(statement)


def as_json(statement: MemberStatement | CreatorStatement) -> str:
    """The statement as JSON; amounts in micro-units."""
    return json.dumps(asdict(statement), ensure_ascii=False, indent=1) + "\n"


def page(statement: MemberStatement | CreatorStatement) -> str:
    """The statement as a printable, self-contained HTML page without scripts."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((resources.files("warehouse.payout.books") / "statement.html").read_text())
    return template.render(statement=statement, amount=as_text, **_headline(statement))


def _headline(statement: MemberStatement | CreatorStatement) -> dict[str, Any]:
    if isinstance(statement, MemberStatement):
        return {
            "title": f"Member {statement.member_id}, {statement.month}",
            "currency": statement.currency,
            "by_creator": True,
            "lines": {
                "pledge": statement.pledge_micro,
                "fee": -statement.fee_micro,
                "carried from earlier months": statement.carried_in_micro,
                "pool": statement.pool_micro,
                "to the charity": -statement.charity_micro,
                "kept": -statement.kept_micro,
                "carried to the next month": -statement.carried_out_micro,
            },
        }
    payout = statement.payout
    return {
        "title": f"Creator {payout.creator_id}, {month_text(payout.month)}",
        "currency": payout.currency,
        "by_creator": False,
        "lines": {
            "earned": payout.earned_micro,
            "carried from earlier months": payout.carried_in_micro,
            "held from earlier months": payout.held_in_micro,
            "corrections": payout.adjusted_micro,
            f"paid ({payout.reason.replace('_', ' ')}) {payout.payment_id}": payout.paid_micro,
            "carried to the next month": payout.carried_out_micro,
            "held": payout.held_out_micro,
        },
    }
