"""Time series: flattrs by hour or day of a month, without gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ingest.contract.month import month_after, month_start_ms
from warehouse.counts.counts import (
    Count,
    Key,
    creator_counts_of_months,
    less_quarantined,
    thing_counts_of_months,
    things,
)
from warehouse.storage.client import Warehouse

HOUR_MS: Final = 3600 * 1000


class Interval(StrEnum):
    """The time that one point covers."""

    HOUR = "hour"
    DAY = "day"

    @property
    def ms(self) -> int:
        """The length in ms; a day in UTC always has 24 hours."""
        return HOUR_MS if self is Interval.HOUR else 24 * HOUR_MS


@dataclass(frozen=True)
class Point:
    """Flattrs clicked in the interval that starts at ``at_ms``."""

    at_ms: int
    flattrs: int


def fill(rows: Iterable[tuple[int, int]], month: int, step: Interval, now_ms: int) -> list[Point]:
    """One point for every interval of the month that has begun; empty ones are 0.

    ``rows`` are (start of an hour in ms, flattrs). Flattrs in the future, because a client's clock is fast, go into
    the last point, so that the points add up to the count.
    """
    start_ms, end_ms = month_start_ms(month), month_start_ms(month_after(month))
    steps = max(0, min(end_ms, now_ms + 1) - start_ms + step.ms - 1) // step.ms
    flattrs = [0] * steps
    for hour_ms, count in rows:
        at = max(0, (hour_ms - start_ms) // step.ms)
        if steps:
            flattrs[min(at, steps - 1)] += count
    return [Point(start_ms + number * step.ms, count) for number, count in enumerate(flattrs)]


def creator_hours(warehouse: Warehouse, month: int, creator_id: str, flagged: int = 1) -> list[tuple[int, int]]:
    """A creator's (hour in ms, flattrs), without empty hours; ``flagged`` as in ``rankings``."""
    rows = warehouse.rows(less_quarantined("creator_series", flagged), {"month": month, "creator_id": creator_id})
    return [(int(hour_ms), int(count)) for hour_ms, count in rows]


def creator_months(
    warehouse: Warehouse, creator_id: str, months: tuple[int, ...], flagged: frozenset[int]
) -> list[tuple[int, int]]:
    """A creator's (month, flattrs) of those months that have any; ``flagged`` are the months with a quarantine."""
    return _months(creator_counts_of_months(warehouse, [(month, creator_id) for month in months], flagged))


def thing_months(
    warehouse: Warehouse, thing_id: str, months: tuple[int, ...], flagged: frozenset[int]
) -> list[tuple[int, int]]:
    """A thing's (month, flattrs), as ``creator_months``."""
    return _months(thing_counts_of_months(warehouse, [(month, thing_id) for month in months], flagged))


def _months(counts: Mapping[Key, Count]) -> list[tuple[int, int]]:
    return sorted((month, count.flattrs) for (month, _), count in counts.items() if count.flattrs)


def thing_hours(warehouse: Warehouse, month: int, thing_id: str, flagged: int = 1) -> list[tuple[int, int]]:
    """A thing's (hour in ms, flattrs), without empty hours; ``flagged`` as in ``rankings``."""
    known = things(warehouse, [thing_id])[thing_id]
    if known is None:
        return []
    params = {"month": month, "creator_id": known.creator_id, "thing_id": thing_id}
    return [
        (int(hour_ms), int(count))
        for hour_ms, count in warehouse.rows(less_quarantined("thing_series", flagged), params)
    ]
