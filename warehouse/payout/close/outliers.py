"""Outliers compared with the month before: somebody looks at them, by name, before the month is closed.

A creator, site or member is an outlier if it has at least ``close_outlier_flattrs_min`` flattrs and
``close_outlier_factor`` times those of last month; a creator also by what it earns. In the first month there is nothing
to compare with. What was found is noted, so that pages show it without counting again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingest.contract.month import month_before, month_text
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.errors import PayoutRefused, one_line
from warehouse.payout.money import as_text
from warehouse.storage.client import Warehouse, columns_of, named

_SHOWN_MAX = 10


@dataclass(frozen=True)
class Outlier:
    """A creator, member or site with what was measured in both months: ``flattrs``, or ``earned`` in micro-units.

    ``who`` has looked at it; empty while nobody has.
    """

    kind: str
    name: str
    measure: str
    value: int
    before: int
    who: str = ""

    def __str__(self) -> str:
        """For example ``creator ada: 1200 flattrs, 90 the month before``."""
        if self.measure == "earned":
            amounts = f"{as_text(self.value)} earned, {as_text(self.before)} the month before"
        else:
            amounts = f"{self.value} flattrs, {self.before} the month before"
        return f"{self.kind} {self.name}: {amounts}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about."""
        return self.kind, self.name, self.measure


def noted_outliers(warehouse: Warehouse, month: int) -> list[Outlier]:
    """The outliers as they were found last, with who has looked at them."""
    return [Outlier(*row) for row in warehouse.rows(named("payout_outliers_noted"), {"month": month})]


def find_outliers(warehouse: Warehouse, month: int, settings: CloseSettings) -> list[Outlier]:
    """Find and note the outliers of a month, largest growth first, at most a hundred of each kind and measure.

    Who looked at one stands as long as it does not grow beyond what was looked at.
    """
    found = _find(warehouse, month, settings)
    noted = {one.key: one for one in noted_outliers(warehouse, month)}
    standing = []
    for one in found:
        before = noted.pop(one.key, None)
        known = before is not None and one.value <= before.value
        standing.append(replace(one, who=before.who) if known and before is not None else one)
        if not known:
            _note(warehouse, month, [one])
    _note(warehouse, month, [replace(one, value=0) for one in noted.values()])
    return standing


def acknowledge(warehouse: Warehouse, month: int, who: str, settings: CloseSettings) -> list[Outlier]:
    """State that ``who`` has looked at every outlier of a month; the ones that nobody had. Raises ``PayoutRefused``."""
    name = one_line(who, "Outliers are acknowledged by somebody: give your name")
    waiting = [replace(one, who=name) for one in find_outliers(warehouse, month, settings) if not one.who]
    _note(warehouse, month, waiting)
    return waiting


def check_outliers(warehouse: Warehouse, month: int, settings: CloseSettings) -> None:
    """Raise ``PayoutRefused`` while a month has an outlier that nobody has looked at."""
    waiting = [one for one in find_outliers(warehouse, month, settings) if not one.who]
    if waiting:
        shown = "; ".join(str(one) for one in waiting[:_SHOWN_MAX])
        more = f"; and {len(waiting) - _SHOWN_MAX} more" if len(waiting) > _SHOWN_MAX else ""
        raise PayoutRefused(
            f"{month_text(month)} has outliers that nobody has looked at: {shown}{more}. Take out what is no real "
            f"member's with `flattr quarantine flag`, then state that the rest is right with `flattr month acknowledge "
            f"{month_text(month)} --by NAME`, and close again."
        )


def _find(warehouse: Warehouse, month: int, settings: CloseSettings) -> list[Outlier]:
    previous = month_before(month)
    if warehouse.rows("SELECT 1 FROM flattrs WHERE month = %(month)s LIMIT 1", {"month": previous}) == []:
        return []
    ((version,),) = warehouse.rows("SELECT max(version) FROM quarantine_versions")
    values = {
        "month": month,
        "previous_month": previous,
        "factor": settings.close_outlier_factor,
        "flattrs_min": settings.close_outlier_flattrs_min,
        "earned_min_micro": settings.close_outlier_earned_min_minor * settings.minor_micro,
        "quarantine_version": version,
    }
    return [Outlier(*row) for row in warehouse.rows(named("payout_outliers"), values, settings.clickhouse)]


def _note(warehouse: Warehouse, month: int, outliers: Sequence[Outlier]) -> None:
    if outliers:
        own = columns_of(outliers, "kind", "name", "measure", "before", "who", month=month, at=datetime.now(UTC))
        warehouse.insert("outliers", {**own, "present": [one.value for one in outliers]})
