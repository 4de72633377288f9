"""The page of the equations: acknowledged = in the log = distinct = live = paid, with both sides of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from warehouse.api import formatting, templates
from warehouse.api.query_runner import Runner
from warehouse.api.routes.sign_in import enter, reader_of
from warehouse.api.verifier import Verifier
from warehouse.counts.equations import Equation
from warehouse.keys import Role

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Group:
    """Equations about one month, or about no particular month; each with its text."""

    title: str
    lines: list[tuple[str, Equation]]

    @property
    def wrong(self) -> int:
        """How many equations do not hold."""
        return sum(not check.holds for _, check in self.lines)


def grouped(checks: tuple[Equation, ...]) -> list[Group]:
    """Group by month, newest first, then those about no particular month."""
    groups: dict[str, list[tuple[str, Equation]]] = {}
    for check in checks:
        month, found, text = check.name.partition(": ")
        name, line = (month, text) if found and month.isdigit() else ("", check.name)
        groups.setdefault(name, []).append((line, check))
    months = sorted((name for name in groups if name), reverse=True)
    return [
        *(Group(formatting.month_name(int(name)), groups[name]) for name in months),
        *(Group("Log and erasures", groups[name]) for name in groups if not name),
    ]


@router.get("/verify")
async def verify(
    request: Request, reads: Runner, part: Annotated[str | None, Query(pattern="^status$")] = None
) -> Response:
    """Every equation with both of its sides; ``part=status`` is the fragment that the page refreshes."""
    await enter(request, reads, Role.OPERATOR)
    compared = await verifier_of(request).get()
    state = "empty" if not compared.checks else "wrong" if compared.wrong else "holds"
    answer = templates.page(
        "verify_status.html" if part else "verify.html",
        here="/verify",
        reader=reader_of(request),
        state=state,
        compared=compared,
        groups=grouped(compared.checks),
        every_s=round(reads.settings.api_verify_s),
    )
    answer.headers["X-State"] = state
    return answer


def verifier_of(request: Request) -> Verifier:
    """The app's verifier."""
    verifier: Verifier = request.app.state.verifier
    return verifier
