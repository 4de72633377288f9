"""Stage gate: may this month close? Every refusal says what is missing and what to do.

The gate reads and never writes. It passes when the month, its grace and the settling time are over by the injected
clock, every earlier month is sealed, the flattrs of subscriptions are posted, every partition is counted to where its
log then ends, no erasure is unfinished, and every accepted click became exactly one of counted, duplicate, undo,
rejected and late. That a recount of the flattrs agrees with the stream is checked later, in ``recount.py``, before
anything is published.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ingest.contract.month import month_after, month_text, parse_month
from ingest.contract.position import BLOCK_CLICKS_MAX, epoch_of, offset_of, position
from ingest.runtime.clock import Clock
from warehouse.moves.notes import left, moving
from warehouse.payout.close.months import cutoff_ms
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse, named
from warehouse.subscriptions.standing import unposted

if TYPE_CHECKING:  # it brings the client of Kafka, and most who import this never ask it
    from warehouse.payout.close.log_ends import LogEnds

_LOOK_EVERY_S: Final = 0.25

#: Called with what the gate is waiting for.
Waiting = Callable[[str], None]


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
        """Accepted clicks without a label; negative if some have more than one."""
        return self.accepted - self.counted - self.duplicate - self.undo - self.rejected - self.late

    def as_dict(self) -> dict[str, int]:
        """The tallies by name."""
        return asdict(self)


def opens_at_ms(month: int, settings: CloseSettings) -> int:
    """When month, grace and settling time are over, in ms since 1970."""
    return cutoff_ms(month, settings.grace_s) + settings.close_settle_s * 1000


def check_month_over(month: int, clock: Clock, settings: CloseSettings) -> None:
    """Raise ``PayoutRefused`` until month, grace and settling time are over."""
    opens_ms, now_ms = opens_at_ms(month, settings), clock()
    if now_ms < opens_ms:
        opens = datetime.fromtimestamp(opens_ms / 1000, UTC)
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        raise PayoutRefused(
            f"{month_text(month)} is not over: with grace and settling time it can be closed from "
            f"{opens:%Y-%m-%d %H:%M:%S} UTC; it is now {now:%Y-%m-%d %H:%M:%S}. Wait until then."
        )


def check_order(warehouse: Warehouse, month: int, settings: CloseSettings) -> None:
    """Raise ``PayoutRefused`` unless this is the next month to close."""
    rows = known_months(warehouse)
    known = [number for number, _ in rows]
    sealed = max((number for number, is_sealed in rows if is_sealed), default=None)
    if sealed is not None and month < sealed:
        raise PayoutRefused(
            f"{month_text(month)} is before {month_text(sealed)}, which is already closed. "
            "Make corrections in an open month."
        )
    due = month_due(known, sealed, settings)
    if due is not None and due < month:
        first = "" if sealed else f" To leave it unpaid for good, set FLATTR_CLOSE_FIRST_MONTH={month_text(month)}."
        raise PayoutRefused(f"{month_text(due)} is not closed yet, and months close in order: close it first.{first}")
    if month not in known and sealed is None:
        raise PayoutRefused(
            f"{month_text(month)} has neither pledges nor flattrs. Check the month, or import its pledges."
        )


def known_months(warehouse: Warehouse) -> list[tuple[int, bool]]:
    """Every month that has pledges, counted flattrs or a seal, and whether it is sealed.

    A month with nothing but undos or pledges that were taken back has nothing to pay and is left out.
    """
    rows = warehouse.rows(named("payout_months"))
    return [(month, bool(sealed)) for month, sealed in rows if sealed or any(_pledged(warehouse, month))]


def _pledged(warehouse: Warehouse, month: int) -> tuple[bool, bool]:
    """Whether a month has pledges, and whether it has counted flattrs."""
    ((pledges, flattrs),) = warehouse.rows(named("payout_pledged"), {"month": month})
    return bool(pledges), bool(flattrs)


def month_due(known: Sequence[int], sealed: int | None, settings: CloseSettings) -> int | None:
    """The next month to close: the one after the last sealed, or else the first with anything to pay.

    Members carry money from month to month, so after the first seal no month may be skipped.
    """
    if sealed is not None:
        return month_after(sealed)
    first = parse_month(settings.close_first_month) if settings.close_first_month else 0
    return min((month for month in known if month >= first), default=None)


def check_log(warehouse: Warehouse, settings: CloseSettings) -> None:
    """Raise ``PayoutRefused`` if this is not the log that is counted, or while it moves to another topic."""
    if reason := left(warehouse, settings.log_epoch) or moving(warehouse):
        raise PayoutRefused(reason)


def check_drained(
    warehouse: Warehouse, month: int, log_ends: LogEnds, settings: CloseSettings, waiting: Waiting = lambda _: None
) -> None:
    """Return when every partition is counted to where its log ends now.

    The ends are read once, because the log keeps growing. Raises ``PayoutRefused`` naming the partitions that are
    behind after ``close_drain_timeout_s``.
    """
    ends = log_ends()
    give_up_at = time.monotonic() + settings.close_drain_timeout_s
    while behind := behind_of(warehouse, ends, settings.log_epoch):
        if time.monotonic() >= give_up_at:
            raise PayoutRefused(
                f"The stream has not counted all of {month_text(month)}: {'; '.join(behind)}. "
                "Start `flattr streams`, or wait until it has caught up, then close again."
            )
        waiting(behind[0])
        time.sleep(_LOOK_EVERY_S)
    # What progress claims is written; on a cluster, not on every replica yet.
    warehouse.sync()


def behind_of(warehouse: Warehouse, ends: Mapping[int, int], epoch: int) -> list[str]:
    """The partitions that are not counted to these ends, in words."""
    reached: dict[int, int] = dict(warehouse.rows(named("payout_progress")))
    return [
        f"partition {partition} is counted to offset {_counted(reached.get(partition), epoch)} of {end}"
        for partition, end in sorted(ends.items())
        if end > 0 and reached.get(partition, -1) < position(epoch, end - 1, BLOCK_CLICKS_MAX - 1)
    ]


def _counted(reached: int | None, epoch: int) -> int:
    of_this_log = reached is not None and epoch_of(reached) == epoch
    return offset_of(reached or 0) + 1 if of_this_log else 0


def check_erasures(warehouse: Warehouse) -> None:
    """Raise ``PayoutRefused`` while an unfinished erasure may have left a member's rows under two names."""
    begun = [str(erasure) for (erasure,) in warehouse.rows(named("erasure_unfinished"))]
    if begun:
        raise PayoutRefused(
            f"Erasure {', '.join(begun)} was interrupted: run the same `flattr member erase` again to finish it, "
            "then close."
        )


def check_currency(warehouse: Warehouse, month: int, settings: CloseSettings) -> None:
    """Raise ``PayoutRefused`` when anything that the close adds up is in another currency than it pays in.

    One installation has one book in one currency; another currency is another installation.
    """
    values = {"month": month, "currency": settings.close_currency}
    other = [f"{what} in {currency}" for what, currency in warehouse.rows(named("payout_currencies"), values)]
    if other:
        raise PayoutRefused(
            f"{month_text(month)} would be paid in {settings.close_currency}, and there are {', '.join(other)}. Money "
            "of two currencies is never added up: set FLATTR_CLOSE_CURRENCY as it was, or pay the other one from an "
            "installation of its own."
        )


def check_pledges(warehouse: Warehouse, month: int) -> None:
    """Raise ``PayoutRefused`` when members flattred and nobody's pledge is imported: nobody would be paid."""
    pledges, flattrs = _pledged(warehouse, month)
    if flattrs and not pledges:
        counted = read_tallies(warehouse, month).counted
        raise PayoutRefused(
            f"No pledge of {month_text(month)} is imported, and {counted} flattrs were counted: nobody would be paid, "
            "for good. Import the pledges with `flattr pledges import`, or close with --without-pledges."
        )


def check_subscriptions(warehouse: Warehouse, month: int) -> None:
    """Raise ``PayoutRefused`` when subscriptions stood at the month's beginning and nobody posted their flattrs."""
    if unposted(warehouse, month):
        raise PayoutRefused(
            f"The subscriptions of {month_text(month)} were never posted: run `flattr subscriptions post "
            f"{month_text(month)}`, then close again."
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


def pass_gate(  # noqa: PLR0913 - what a close has, named
    warehouse: Warehouse,
    month: int,
    *,
    clock: Clock,
    log_ends: LogEnds,
    settings: CloseSettings,
    waiting: Waiting = lambda _: None,
    without_pledges: bool = False,
    early: bool = False,
) -> Tallies:
    """Run all checks and return the month's tallies. Raises ``PayoutRefused`` at the first that fails.

    ``early`` is for a rehearsal of a month that is not over: clicks still come, so that nothing has an end to reach.
    """
    if not early:
        check_month_over(month, clock, settings)
    check_order(warehouse, month, settings)
    check_currency(warehouse, month, settings)
    if not early:
        check_subscriptions(warehouse, month)
        check_log(warehouse, settings)
        check_drained(warehouse, month, log_ends, settings, waiting)
    check_erasures(warehouse)
    tallies = read_tallies(warehouse, month)
    check_tallies(month, tallies)
    if not without_pledges:
        check_pledges(warehouse, month)
    return tallies
