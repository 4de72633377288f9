"""From flags to the flattrs they cover: a new version of the set whenever it changes.

What is written, in order, and what a crash right after each step costs:

1. the log's step (``desk.py``): the flag is in force but has no effect until the next refresh, at the latest that of
   the close
2. ``quarantine_set``: rows of a version that nobody reads; the next refresh takes a higher number
3. ``quarantine_versions``: nothing, the version is in force
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from warehouse.storage.client import Warehouse, named

StepDone = Callable[[str], None]


@dataclass(frozen=True)
class Effect:
    """The state of a month's quarantine: ``version`` has ``flattrs`` keys and includes the log up to ``step``."""

    version: int
    step: int
    flattrs: int


def refresh(warehouse: Warehouse, month: int, step_done: StepDone = lambda _: None) -> Effect:
    """Update an open month's set to its flags and flattrs. The caller must hold the close's lock.

    If the log is empty it writes nothing and costs one small query.
    """
    ((newest_step, version, step, flattrs, above),) = warehouse.rows(named("quarantine_state"), {"month": month})
    if not newest_step:
        return Effect(0, 0, 0)
    values = {"month": month, "step": newest_step, "version": above}
    warehouse.command_per_shard(named("payout_quarantine_set"), values)
    step_done("set")
    ((changed, added),) = warehouse.rows(
        "SELECT count(), countIf(held) FROM quarantine_set WHERE month = %(month)s AND version = %(version)s", values
    )
    if not changed and step == newest_step:
        return Effect(version, step, flattrs)
    flattrs += 2 * added - changed
    warehouse.insert(
        "quarantine_versions", {"version": [above], "month": [month], "step": [newest_step], "flattrs": [flattrs]}
    )
    step_done("version")
    return Effect(above, newest_step, flattrs)
