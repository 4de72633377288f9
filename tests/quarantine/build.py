"""Steps of the quarantine with defaults, and an oracle of the split that shares no code with the close."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from tests.payout.build import Flattr
from warehouse.payout.split import split
from warehouse.quarantine import desk
from warehouse.quarantine.desk import Outcome
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

NOW = 1_795_176_000_000
MONTH = 202611


def flag(  # noqa: PLR0913 - what a flag says, with defaults
    warehouse: Warehouse,
    subject: Subject,
    *,
    month: int = MONTH,
    reason: str = "looks bought",
    step_done: Callable[[str], None] = lambda _: None,
    unseen: bool = False,
) -> Outcome:
    return desk.flag(
        warehouse, month, subject, reason=reason, by="fin", clock=lambda: NOW, step_done=step_done, unseen=unseen
    )


def release(
    warehouse: Warehouse, subject: Subject, *, month: int = MONTH, step_done: Callable[[str], None] = lambda _: None
) -> Outcome:
    return desk.release(
        warehouse, month, subject, reason="they are real", by="fin", clock=lambda: NOW, step_done=step_done
    )


def shares_without(
    month: int, flattrs: Iterable[Flattr], pledges: Mapping[str, int], unpaid: Iterable[str] = ()
) -> dict[tuple[str, str], int]:
    """Every member's shares of EUR pledges less 10 %, from the flattrs that stand."""
    ballots: dict[str, Counter[str]] = defaultdict(Counter)
    for row in flattrs:
        if row.clicked and not row.undone:
            ballots[row.member_id][row.creator_id] += 1
    shares = {}
    for member, ballot in ballots.items():
        pledge = 0 if member in set(unpaid) else pledges.get(member, 0)
        pool = pledge - pledge // 10
        for creator, micro in split(pool, ballot, month=month, member_id=member).items():
            shares[member, creator] = micro
    return shares
