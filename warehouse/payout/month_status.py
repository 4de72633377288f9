"""Where a month stands: what its close is still waiting for, the stages done, the proof. Reads only.

The close itself asks the broker and recounts (warehouse/payout/close/). This module looks only at what the warehouse
knows, which is cheap enough for a page that refreshes during a close.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ingest.contract.month import month_text
from warehouse.counts.lag import Lag
from warehouse.payout.close import proof
from warehouse.payout.close.gate import Tallies, known_months, month_due, read_tallies
from warehouse.payout.close.months import cutoff_ms
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.stages import Stage
from warehouse.payout.closed_months import Payout
from warehouse.storage.client import Warehouse, named
from warehouse.subscriptions.standing import unposted


class State(StrEnum):
    """The state of a month."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True)
class Check:
    """One check of the gate. ``passed`` is None when the warehouse alone cannot tell."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class StageDone:
    """A stage of the newest run."""

    stage: Stage
    done_at_ms: int


@dataclass(frozen=True)
class MonthFacts:
    """What the warehouse knows about a month."""

    tallies: Tallies
    stages: tuple[StageDone, ...]
    proof: Proof | None
    #: an earlier month that must be closed first
    open_before: int | None
    #: Subscriptions stood when the month began, and nobody posted their flattrs.
    unposted: bool = False
    #: nothing happened in the month, and it is not its turn to be closed either
    is_empty: bool = False


def months(warehouse: Warehouse) -> list[tuple[int, bool]]:
    """Months with flattrs or a seal, newest first, and whether they are closed."""
    return [(int(month), bool(sealed)) for month, sealed in warehouse.rows(named("months")) if month]


def read_facts(warehouse: Warehouse, month: int, rules: CloseSettings) -> MonthFacts:
    """Read everything that the page of a month shows."""
    stages = warehouse.rows(named("close_stages"), {"month": month})
    rows = known_months(warehouse)
    sealed = max((number for number, is_sealed in rows if is_sealed), default=None)
    due = month_due([number for number, _ in rows], sealed, rules)
    stated = proof.stored(warehouse, month)
    tallies = read_tallies(warehouse, month)
    return MonthFacts(
        tallies=tallies,
        stages=tuple(StageDone(Stage(stage), int(at_ms)) for stage, at_ms in stages),
        proof=stated,
        open_before=due if due is not None and due < month else None,
        unposted=stated is None and unposted(warehouse, month),
        is_empty=not tallies.accepted and month != due and month not in {number for number, _ in rows},
    )


def payouts_page(warehouse: Warehouse, month: int, limit: int, after_id: str) -> list[Payout]:
    """Payout lines of a closed month by creator, after ``after_id``; none while it is open."""
    params = {"month": month, "limit": limit, "after_id": after_id}
    return [Payout(*row) for row in warehouse.rows(named("closed_payouts"), params)]


def state_of(facts: MonthFacts) -> State:
    """Closed if and only if it has a seal; closing once a run has finished a stage."""
    if facts.proof is not None:
        return State.CLOSED
    return State.CLOSING if facts.stages else State.OPEN


def checks(month: int, facts: MonthFacts, lag: Lag, rules: CloseSettings) -> list[Check]:
    """The gate's checks, as far as the warehouse can tell. Each detail says what is the case, or what to do."""
    if facts.is_empty:
        return [Check("not_empty", False, "Nothing happened in this month: there is nothing to close.")]
    return [
        _over(month, lag.now_ms, rules),
        _in_order(facts),
        _posted(month, facts),
        _drained(month, lag, rules),
        _explained(facts.tallies),
        _recounted(facts),
    ]


def _over(month: int, now_ms: int, rules: CloseSettings) -> Check:
    left_s = (cutoff_ms(month, rules.grace_s) - now_ms) // 1000 + rules.close_settle_s
    if left_s <= 0:
        return Check("over", True, "The month, its grace and the settling time are over.")
    days, seconds = divmod(left_s, 86_400)
    wait = (
        f"{days} d {seconds // 3600} h" if days else f"{seconds // 3600} h {seconds % 3600 // 60} min {seconds % 60} s"
    )
    return Check("over", False, f"The month, with grace and settling time, is over in {wait}.")


def _in_order(facts: MonthFacts) -> Check:
    if facts.open_before is not None:
        return Check("in_order", False, f"{month_text(facts.open_before)} is not closed yet: close it first.")
    return Check("in_order", True, "Every month before it is closed.")


def _posted(month: int, facts: MonthFacts) -> Check:
    if facts.unposted:
        command = f"flattr subscriptions post {month_text(month)}"
        return Check(
            "posted", False, f"Its subscriptions are not posted yet: run `{command}` before the month is over."
        )
    return Check("posted", True, "The flattrs of its subscriptions are posted, or there are none.")


def _drained(month: int, lag: Lag, rules: CloseSettings) -> Check:
    cutoff = cutoff_ms(month, rules.grace_s) + rules.close_settle_s * 1000
    if not lag.partitions:
        return Check("drained", None, "The stream has not counted anything yet: start `flattr streams`.")
    behind = [part.partition for part in lag.partitions if part.as_of_ms is None or part.as_of_ms < cutoff]
    if not behind:
        return Check("drained", True, "Every partition is counted past the month's end, grace and settling time.")
    names = ", ".join(str(number) for number in behind[:12])
    return Check("drained", False, f"{len(behind)} of {len(lag.partitions)} partitions are still behind: {names}.")


def _explained(tallies: Tallies) -> Check:
    if tallies.unexplained:
        return Check("explained", False, f"{tallies.unexplained:,} accepted clicks have no label yet.")
    return Check("explained", True, "Accepted = counted + duplicate + undo + rejected + late.")


def _recounted(facts: MonthFacts) -> Check:
    if any(done.stage is Stage.GATE for done in facts.stages) or facts.proof is not None:
        return Check("recounted", True, "Every flattr was recounted, and any count that differed was restated.")
    return Check("recounted", None, "The close recounts every flattr before it divides any money.")
