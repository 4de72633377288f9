"""What is stated by partition, stated for the new partitions. The old log is counted to its end, and closed.

A member's new partition is a child of the old one: the hash modulo N is that modulo 2 N, modulo N. So the state of a
new partition is a function of its parent's whole log and of its own, and everything written for it stands at the
*boundary*, above all positions of the old log and below all of the new one.

| step              | writes                                             | a crash right after it costs     |
|-------------------|----------------------------------------------------|----------------------------------|
| retimed           | decisions, for every child                         | the same rows again              |
| counts by creator | a month's counts, gathered beside the table, then  | the same rows again; sums over   |
| counts by thing   | attached to it all at once                         | partitions are as they were      |
| progress          | a row for each new partition, at the boundary      | the same rows again              |
| partitions        | the number of the new log epoch                    | nothing: its workers may begin   |

Whoever still runs on the old log, and has been asleep, writes rows that it or another has written before; their
positions are below the boundary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from warehouse.moves.notes import Move
from warehouse.payout.close.gate import check_erasures
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.client import Warehouse, named

#: Tables of counts by partition, and what gathers a month of each.
_COUNTS: Final = {"counts_by_creator": "carry_counts_by_creator", "counts_by_thing": "carry_counts_by_thing"}


def carry(warehouse: Warehouse, move: Move, step_done: Callable[[str], None] = lambda _: None) -> None:
    """State everything for the new partitions. Raises ``PayoutRefused``; safe to repeat, also after a crash."""
    with locked(warehouse, CLOSE) as held:
        check_pseudonyms(held, move.partitions)
        values: dict[str, Any] = {
            "partitions": move.partitions, "from_partitions": move.from_partitions, "boundary": move.boundary
        }  # fmt: skip
        months = [month for (month,) in held.rows(named("carry_months"))]
        held.command(named("carry_retimed"), {**values, "since": min(months, default=0)})
        step_done("retimed")
        for table, gather in _COUNTS.items():
            for month in months:
                held.command(named(gather), {**values, "month": month})
                held.command(f"ALTER TABLE {table} ATTACH PARTITION {month:d} FROM {table}_moving")
            held.command(f"TRUNCATE TABLE {table}_moving")
            step_done(table.replace("_", " "))
        held.command(named("carry_progress"), values)
        step_done("progress")
        held.insert("log_partitions", {"epoch": [move.epoch], "partitions": [move.partitions]})
        step_done("partitions")


def check_pseudonyms(warehouse: Warehouse, partitions: int) -> None:
    """Raise ``PayoutRefused`` while an erasure is unfinished, or a pseudonym would leave its member's partition."""
    check_erasures(warehouse)
    # What is due to go may still be there.
    warehouse.command("OPTIMIZE TABLE erasures FINAL")
    ((erasures, until),) = warehouse.rows(named("misplaced_pseudonyms"), {"partitions": partitions})
    if erasures:
        raise PayoutRefused(
            f"{erasures} erased members would not share a partition with their pseudonyms if there were {partitions}. "
            f"The list of erasures forgets them by {until:%Y-%m-%d}: until then the number stays."
        )
