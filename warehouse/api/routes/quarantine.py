"""The quarantine's log over HTTP, read-only. Steps are taken with `flattr quarantine`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ingest.contract.month import month_text
from warehouse.api import auth
from warehouse.api.problems import RESPONSES
from warehouse.api.query_runner import Runner
from warehouse.api.shapes import PathMonth, moment
from warehouse.keys import Role
from warehouse.quarantine.log import Step, in_force, read_steps
from warehouse.storage.client import Warehouse, named

router = APIRouter(prefix="/v1/months", tags=["finance"], responses={**RESPONSES, **auth.RESPONSES})
_LIMIT_MAX: Final = 1000


class StepLine(BaseModel):
    """One step, a flag or a release. It never changes."""

    step: int = Field(examples=[17])
    at: datetime | None
    action: str = Field(description="flag or release")
    in_force: bool = Field(description="whether this is a flag in force")
    kind: str = Field(description="flattr, member, member_creator, site or creator")
    member_id: str = Field(description="empty if the kind does not use it; likewise the next three")
    creator_id: str
    thing_id: str
    site_id: str
    rule: str = Field(description="velocity, site_share, ring_pair, ring_group or by hand")
    reason: str
    evidence: str = Field(description="JSON: the figures behind the rule's decision")
    by: str


class Quarantine(BaseModel):
    """A month's quarantine and one page of its log."""

    month: str = Field(examples=["2026-11"])
    flags: int = Field(description="flags in force")
    flattrs: int = Field(description="flattrs that they cover, including those undone since")
    next: int | None = Field(description="`after` of the next page; null on the last")
    steps: list[StepLine]


@router.get("/{month}/quarantine", summary="Flags, releases and their reasons", dependencies=[auth.needs(Role.FINANCE)])
async def quarantine(
    reads: Runner,
    month: PathMonth,
    limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 100,
    after: Annotated[int, Query(ge=0, lt=1 << 40, description="`next` of the page before")] = 0,
) -> Quarantine:
    """Oldest first. Flattrs covered by a flag in force are left out of counts and payouts."""
    steps, flattrs = await reads.run(_read, month)
    standing = {step.number for step in in_force(steps).values()}
    page = [step for step in steps if step.number > after][:limit]
    return Quarantine(
        month=month_text(month),
        flags=len(standing),
        flattrs=flattrs,
        next=page[-1].number if page and page[-1].number != steps[-1].number else None,
        steps=[_line(step, in_force=step.number in standing) for step in page],
    )


def _read(warehouse: Warehouse, month: int) -> tuple[list[Step], int]:
    ((_, _, _, flattrs, _),) = warehouse.rows(named("quarantine_state"), {"month": month})
    return read_steps(warehouse, month), int(flattrs)


def _line(step: Step, *, in_force: bool) -> StepLine:
    return StepLine(
        step=step.number,
        at=moment(step.at_ms),
        in_force=in_force,
        by=step.by,
        action=step.action,
        rule=step.rule,
        reason=step.reason,
        evidence=step.evidence,
        **vars(step.subject),
    )
