"""Stage gate: may this month close? Every refusal is a sentence that says what is missing.

The gate reads and never writes. It passes when the month and its grace are over by the
injected clock, every earlier month is sealed, every partition is counted past the cut-off,
and every accepted click has become exactly one of counted, duplicate, undo, rejected and
late. That the flattrs, recounted, equal what the stream stated is asked of the snapshot
(``recount.py``), before anything is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from ingest.click import month_after, month_text, position
from ingest.clock import Clock
from warehouse.client import Warehouse, named
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.log_ends import LogEnds
from warehouse.payout.months import cutoff_ms
from warehouse.payout.settings import CloseSettings

_LAST_INDEX = (1 << 16) - 1
_OFFSET_MASK = (1 << 40) - 1


@dataclass(frozen=True)
class Tallies:
    """What became of the month's accepted clicks."""

    accepted: int
    counted: int
    duplicate: int
    undo: int
    rejected: int
    late: int

    @property
    def unexplained(self) -> int:
        """Accepted clicks that became nothing (or two things, when negative)."""
        return self.accepted - self.counted - self.duplicate - self.undo - self.rejected - self.late

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def check_month_over(month: int, clock: Clock, settings: CloseSettings) -> None:
    """Raise ``PayoutRefused`` until month, grace and settling time are over."""
    opens_ms = cutoff_ms(month, settings.grace_s) + settings.close_settle_s * 1000
    now_ms = clock()
    if now_ms < opens_ms:
        opens = datetime.fromtimestamp(opens_ms / 1000, UTC)
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        raise PayoutRefused(
            f"{month_text(month)} is not over: with its grace it can be closed from {opens:%Y-%m-%d %H:%M:%S} UTC on; "
            f"now it is {now:%Y-%m-%d %H:%M:%S}. Wait until then."
        )


def check_order(warehouse: Warehouse, month: int) -> None:
    """Raise ``PayoutRefused`` unless this is the month that is to be closed next."""
    rows = warehouse.rows(named("payout_months"))
    known = sorted(number for number, _ in rows)
    sealed = sorted(number for number, is_sealed in rows if is_sealed)
    if sealed and month < sealed[-1]:
        raise PayoutRefused(
            f"{month_text(month)} lies before {month_text(sealed[-1])}, which is closed: "
            "a correction belongs to an open month."
        )
    due = month_after(sealed[-1]) if sealed else known[0] if known else month
    if due < month:
        raise PayoutRefused(f"{month_text(due)} is not closed yet: close it first, months are closed in order.")
    if month not in known and not sealed:
        raise PayoutRefused(
            f"Nothing is known of {month_text(month)}: neither pledges nor flattrs. "
            "Check the month, or import its pledges."
        )


def check_drained(warehouse: Warehouse, month: int, log_ends: LogEnds, settings: CloseSettings) -> None:
    """Raise ``PayoutRefused`` while a partition has records of the month that are not counted."""
    ends = log_ends(cutoff_ms(month, settings.grace_s) + settings.close_settle_s * 1000)
    reached: dict[int, int] = dict(warehouse.rows(named("payout_progress")))
    behind = [
        _behind(partition, end, reached.get(partition), settings.log_epoch)
        for partition, end in sorted(ends.items())
        if end > 0 and reached.get(partition, -1) < position(settings.log_epoch, end - 1, _LAST_INDEX)
    ]
    if behind:
        raise PayoutRefused(
            f"The stream has not counted all of {month_text(month)}: {'; '.join(behind)}. "
            "Start `flattr streams`, or wait until it has caught up."
        )


def _behind(partition: int, end: int, reached: int | None, epoch: int) -> str:
    of_this_log = reached is not None and reached >> 56 == epoch
    counted = ((reached or 0) >> 16 & _OFFSET_MASK) + 1 if of_this_log else 0
    return f"partition {partition} is counted to offset {counted} of {end}"


def check_erasures(warehouse: Warehouse) -> None:
    """Raise ``PayoutRefused`` while a member's rows may stand under two names."""
    begun = [str(erasure) for (erasure,) in warehouse.rows(named("erasure_unfinished"))]
    if begun:
        raise PayoutRefused(
            f"Erasure {', '.join(begun)} was begun and is not done: "
            "give the same `flattr member erase` again, then close."
        )


def read_tallies(warehouse: Warehouse, month: int) -> Tallies:
    """The month's tallies over all partitions."""
    ((accepted, counted, duplicate, undo, rejected, late),) = warehouse.rows(named("payout_tallies"), {"month": month})
    return Tallies(accepted, counted, duplicate, undo, rejected, late)


def check_tallies(month: int, tallies: Tallies) -> None:
    """Raise ``PayoutRefused`` unless accepted = counted + duplicate + undo + rejected + late."""
    if tallies.unexplained:
        raise PayoutRefused(
            f"{tallies.unexplained} accepted clicks of {month_text(month)} are unexplained: "
            f"{_spelled(tallies.as_dict())}. Replay the month from the log (`flattr replay`) and compare."
        )


def _spelled(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def pass_gate(warehouse: Warehouse, month: int, *, clock: Clock, log_ends: LogEnds, settings: CloseSettings) -> Tallies:
    """Raise ``PayoutRefused`` at the first thing that is missing; return the month's tallies."""
    check_month_over(month, clock, settings)
    check_order(warehouse, month)
    check_drained(warehouse, month, log_ends, settings)
    check_erasures(warehouse)
    tallies = read_tallies(warehouse, month)
    check_tallies(month, tallies)
    return tallies
