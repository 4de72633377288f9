"""What leaves the warehouse by itself, and after how long. docs/retention.md says why all else stays.

The migrations give every such table its TTL, by the server's own clock. ``apply`` brings the TTLs to the settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from warehouse.storage.client import Warehouse
from warehouse.storage.placement import here
from warehouse.storage.settings import RetentionSettings

_INTERVAL: Final = re.compile(r"\bTTL\b.*?toIntervalDay\((\d+)\)")


@dataclass(frozen=True)
class Expiry:
    """When rows of a table leave: the setting's days and ``later_days`` after ``column``, if ``where`` holds."""

    setting: str
    column: str = "stored_at"
    where: str = ""
    later_days: int = 0

    def days(self, settings: RetentionSettings) -> int:
        """After how many days."""
        return int(getattr(settings, self.setting)) + self.later_days

    def statement(self, table: str, days: int) -> str:
        """What gives the table this TTL."""
        which = f" DELETE WHERE {self.where}" if self.where else ""
        return f"ALTER TABLE {table} MODIFY TTL {self.column} + INTERVAL {days} DAY{which}"


_FROM_THE_DOOR: Final = "topic = 'rejected'"
#: Every table whose TTL is a setting. The rows of `erasures` say themselves when they leave.
EXPIRIES: Final = {
    "log_ends": Expiry("retain_log_ends_days", "kept_from"),
    "locks": Expiry("retain_locks_days", "toDateTime(at)"),
    "rejected": Expiry("retain_rejected_days", where=_FROM_THE_DOOR),
    "rejected_replayed": Expiry("retain_rejected_days", "replayed_at", _FROM_THE_DOOR),
    "replayed_flattrs": Expiry("retain_replays_days"),
    "replayed_orders": Expiry("retain_replays_days"),
    "provisional_runs": Expiry("retain_provisional_days"),
    "provisional_payouts": Expiry("retain_provisional_days", later_days=30),
}


@dataclass(frozen=True)
class Changed:
    """A table whose TTL was not as set."""

    table: str
    before_days: int
    after_days: int


def apply(warehouse: Warehouse, settings: RetentionSettings) -> list[Changed]:
    """Bring the TTLs of a migrated database to the settings; returns what was changed. Safe to repeat."""
    found = expiry_days(warehouse)
    changed = []
    for table, expiry in EXPIRIES.items():
        days = expiry.days(settings)
        if found[table] != days:
            warehouse.command(expiry.statement(table, days))
            changed.append(Changed(table, found[table], days))
    return changed


def expiry_days(warehouse: Warehouse) -> dict[str, int]:
    """The days of each table in ``EXPIRIES``, as the server has them."""
    names = {here(table) if warehouse.topology.cluster else table: table for table in EXPIRIES}
    rows = warehouse.rows(
        "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND name IN %(names)s",
        {"names": tuple(names)},
    )
    return {names[name]: int(days[1]) for name, engine in rows if (days := _INTERVAL.search(engine))}
