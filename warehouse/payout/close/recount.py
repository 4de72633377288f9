"""The recount: the close counts the flattrs itself and compares with the stream, before anything is published.

Flattrs are what is paid for, so two things must hold: every counted click became a flattr, and the pools contain every
flattr. The count tables are only derived from the flattrs: where they differ, they are restated from them and the
close goes on, so that an attacker who corrupts a count cannot stop a month from being paid.

| step                   | a crash right after it costs                                          |
|------------------------|-----------------------------------------------------------------------|
| 1 restated_counts      | a rerun finds the same differences and writes the same rows           |
| 2 each table of counts | a rerun finds what still differs; rewriting a row changes nothing     |

What was restated is not part of the proof. The seal covers flattrs and money, so it is the same for a run that finds
the counts already restated by one that was killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from ingest.contract.month import month_text
from warehouse.payout.close.gate import Tallies
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import Snapshot
from warehouse.payout.errors import NotConserved, PayoutRefused
from warehouse.storage.client import Warehouse, named

_log = structlog.get_logger()
_REMEDY: Final = "find the difference with `flattr replay` before money is divided."
_LINE: Final = "month, counts, member_id, creator_id, thing_id, partition, stated, flattrs, position"
#: The key's columns of each table.
_TABLES: Final = {
    "by_member": "member_id, creator_id",
    "by_creator": "creator_id, partition",
    "by_thing": "creator_id, thing_id, partition",
}


@dataclass(frozen=True)
class Restated:
    """How many lines of a month's counts differed from its flattrs, and the largest difference in words."""

    month: int
    lines: int
    largest: str

    def __str__(self) -> str:
        plural = "count" if self.lines == 1 else "counts"
        return f"{self.lines} {plural} of {month_text(self.month)}, the largest difference: {self.largest}"


#: The step that is done.
StepDone = Callable[[str], None]


def check_recount(  # noqa: PLR0913, PLR0917 - what all parts of the close take, and what to do about a difference
    warehouse: Warehouse,
    month: int,
    settings: CloseSettings,
    snapshot: Snapshot,
    tallies: Tallies,
    partitions: Callable[[], int],
    *,
    restate: bool,
    step_done: StepDone = lambda _: None,
) -> Restated | None:
    """Compare staged pools and quarantine with flattrs, tallies and counts; return what is restated, or None.

    Without ``restate``, only reports what would be. ``partitions`` returns the log's number of partitions and is called
    only when counts differ. Raises ``PayoutRefused`` when the counted clicks are not those the stream tallied, and
    ``NotConserved`` when the pools do not contain the flattrs.
    """
    values = {"month": month, "quarantine_version": snapshot.quarantine_version}
    (row,) = warehouse.rows(named("payout_recount"), values, settings.clickhouse)
    counted, active, *stated, by_member, by_thing, lines_equal = row
    if counted != tallies.counted:
        raise PayoutRefused(
            f"{month_text(month)} has {counted} counted flattrs but the stream tallied {tallies.counted}: {_REMEDY}"
        )
    if lines_equal and all(flattrs == active for flattrs in stated):
        return None
    # If this fails, the defect is in this package, not in the stream, and nothing it computed can be trusted.
    (standing,) = warehouse.rows(named("payout_recount_flattrs"), values, settings.clickhouse)
    if standing != (active, by_member, by_thing):
        raise NotConserved(
            f"{month_text(month)}: the {active} flattrs in pools and quarantine are not the {standing[0]} active ones"
        )
    reached = _reached(warehouse, partitions())
    return (_restate if restate else _differing)(warehouse, month, reached, settings, step_done)


def restated(warehouse: Warehouse, month: int) -> Restated | None:
    """What closes of this month have restated, or None."""
    return _summary(warehouse, month, "restated_counts FINAL WHERE month = %(month)s", {"month": month})


def _reached(warehouse: Warehouse, partitions: int) -> list[int]:
    """By partition, the position up to which it is counted; 0 where nothing is."""
    known: dict[int, int] = dict(warehouse.rows(named("payout_progress")))
    return [known.get(partition, 0) for partition in range(partitions)]


def _differing(
    warehouse: Warehouse, month: int, reached: list[int], settings: CloseSettings, _step_done: StepDone
) -> Restated | None:
    values = {"month": month, "reached": reached}
    return _summary(warehouse, month, f"({named('payout_restated')})", values, settings.clickhouse)


def _restate(
    warehouse: Warehouse, month: int, reached: list[int], settings: CloseSettings, step_done: StepDone
) -> Restated | None:
    values = {"month": month, "reached": reached}
    warehouse.command(f"INSERT INTO restated_counts ({_LINE}) {named('payout_restated')}", values, settings.clickhouse)
    step_done("counts differ")
    for counts, key in _TABLES.items():
        columns = f"month, {key}, flattrs, position"
        warehouse.command(
            f"INSERT INTO counts_{counts} ({columns}) SELECT {columns} FROM restated_counts FINAL "  # noqa: S608 - our names
            f"WHERE month = %(month)s AND counts = '{counts}'",
            values,
        )
        step_done(f"restated {counts}")
    done = restated(warehouse, month)
    _log.warning("counts were restated from the flattrs", restated=str(done))
    return done


def _summary(
    warehouse: Warehouse, month: int, lines: str, values: dict[str, Any], settings: dict[str, Any] | None = None
) -> Restated | None:
    ((count, *line),) = warehouse.rows(
        "SELECT count(), argMax((counts, member_id, creator_id, lower(hex(thing_id)), stated, flattrs) AS line, "  # noqa: S608 - our names
        f"(abs(toInt64(stated) - toInt64(flattrs)), line)) FROM {lines}",
        values,
        settings,
    )
    if not count:
        return None
    counts, member, creator, thing, stated, flattrs = line[0]
    names = {"by_member": f"member {member} for creator {creator}", "by_creator": f"creator {creator}"}
    name = names.get(counts, f"thing {thing} of creator {creator}")
    return Restated(month, int(count), f"{name} was stated as {stated} and has {flattrs}")
