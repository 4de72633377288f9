"""Flag, release and scan: append steps to the log, then apply their effect.

Before the month's close the effect is a new version of the set (``payout/close/quarantine_set.py``); afterwards it is
corrections (``corrections.py``). Both run under the close's lock, so that a close sees all of a step or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ingest.contract.month import month_text
from ingest.runtime.clock import Clock
from warehouse.payout.close import proof
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.quarantine_set import StepDone, refresh
from warehouse.payout.errors import PayoutRefused, one_line
from warehouse.payout.inputs.adjustments import Adjustment
from warehouse.quarantine import scan as scanning
from warehouse.quarantine.corrections import settle
from warehouse.quarantine.log import BY_HAND, Entry, Step, Subject, append, in_force, read_steps
from warehouse.quarantine.rules import Finding
from warehouse.quarantine.settings import QuarantineSettings
from warehouse.storage.archived import refuse_archived
from warehouse.storage.client import Warehouse, named

Choose = Callable[[list[Step]], Sequence[Entry]]


@dataclass(frozen=True)
class Outcome:
    """What a command did: the steps taken, the flattrs now in quarantine, and the corrections of a closed month."""

    steps: list[int]
    flattrs: int = 0
    corrections: list[Adjustment] = field(default_factory=list)


def flag(  # noqa: PLR0913 - what a step says
    warehouse: Warehouse,
    month: int,
    subject: Subject,
    *,
    reason: str,
    by: str,
    clock: Clock,
    step_done: StepDone = lambda _: None,
    unseen: bool = False,
) -> Outcome:
    """Put a subject into quarantine by hand.

    Raises ``PayoutRefused`` without a reason, if it is flagged already, and for a name that nothing here bears, unless
    it is flagged ahead of its first flattr (``unseen``).
    """
    entry = Entry("flag", subject, BY_HAND, _said(reason), "{}", _said(by))
    if not unseen:
        _check_known(warehouse, subject)

    def choose(steps: list[Step]) -> list[Entry]:
        there = in_force(steps).get(subject)
        if there is not None:
            raise PayoutRefused(
                f"{subject} is already in quarantine, since step {there.number} by {there.by}: {there.reason}"
            )
        return [entry]

    return _take(warehouse, month, choose, clock, step_done)


def release(  # noqa: PLR0913 - what a step says
    warehouse: Warehouse,
    month: int,
    subject: Subject,
    *,
    reason: str,
    by: str,
    clock: Clock,
    step_done: StepDone = lambda _: None,
) -> Outcome:
    """Lift a subject's flag; flattrs covered by another stay in quarantine. Raises ``PayoutRefused`` if it has none."""

    def choose(steps: list[Step]) -> list[Entry]:
        flags = in_force(steps)
        if subject not in flags:
            there = "; ".join(str(flagged) for flagged in sorted(flags)[:10]) or "nothing"
            raise PayoutRefused(
                f"{subject} is not flagged in {month_text(month)}; only what is flagged can be released. "
                f"Flagged there: {there}."
            )
        return [Entry("release", subject, BY_HAND, _said(reason), "{}", _said(by))]

    return _take(warehouse, month, choose, clock, step_done)


def scan(  # noqa: PLR0913 - as flag
    warehouse: Warehouse,
    month: int,
    bounds: QuarantineSettings,
    *,
    by: str,
    clock: Clock,
    step_done: StepDone = lambda _: None,
) -> Outcome:
    """Flag what the rules find, and update the set to what was clicked since. Refuses to scan a closed month.

    Subjects already in the log are skipped: no rule flags again what somebody released.
    """
    found = scanning.find(warehouse, month, bounds)
    if not found and not read_steps(warehouse, month, limit=1):
        # Without the lock: a scan of every minute must not stand in the way of an import.
        return Outcome([])

    def choose(steps: list[Step]) -> list[Entry]:
        if proof.stored(warehouse, month) is not None:
            raise PayoutRefused(f"{month_text(month)} is closed and cannot be scanned: flag by hand what to take back.")
        known = {step.subject for step in steps}
        new: dict[Subject, Finding] = {}
        for one in found:
            if one.subject not in known:
                new.setdefault(one.subject, one)
        return [
            Entry("flag", one.subject, one.rule, one.reason, json.dumps(one.evidence, sort_keys=True), _said(by))
            for one in new.values()
        ]

    return _take(warehouse, month, choose, clock, step_done)


def _check_known(warehouse: Warehouse, subject: Subject) -> None:
    """Raise ``PayoutRefused`` for a name that has no flattr, no pledge and no place in the register: it is mistyped."""
    values = {"member_id": subject.member_id, "creator_id": subject.creator_id, "site_id": subject.site_id}
    ((known,),) = warehouse.rows(named("quarantine_known"), values)
    names = {"member": subject.member_id, "creator": subject.creator_id, "site": subject.site_id}
    unknown = [f"{kind} {name}" for kind, name in names.items() if name and kind not in known]
    if unknown:
        raise PayoutRefused(
            f"There is no {' and no '.join(unknown)}, neither in flattrs nor in pledges or the register: nothing was "
            "flagged. Is the name spelt right? --unseen flags it ahead of its first flattr."
        )


def _said(text: str) -> str:
    return one_line(text, "A step needs a reason and the name of who takes it, each")


def _take(warehouse: Warehouse, month: int, choose: Choose, clock: Clock, step_done: StepDone) -> Outcome:
    """Step 1 is the log, in one block; 2 and 3 are the effect. ``quarantine_set.py`` says what a crash costs.

    Raises ``MonthArchived`` if the flattrs left that a flag would cover.
    """
    with locked(warehouse, CLOSE) as held:
        refuse_archived(held, month)
        try:
            entries = choose(read_steps(held, month))
        except PayoutRefused:
            # The step may be in the log from a run that crashed before its effect: a retry completes it.
            _effect(held, month, [], step_done)
            raise
        numbers = append(held, month, entries, clock()) if entries else []
        step_done("log")
        return _effect(held, month, numbers, step_done)


def _effect(warehouse: Warehouse, month: int, numbers: list[int], step_done: StepDone) -> Outcome:
    sealed = proof.stored(warehouse, month)
    if sealed is None:
        return Outcome(numbers, refresh(warehouse, month, step_done).flattrs)
    return Outcome(numbers, corrections=settle(warehouse, sealed))
