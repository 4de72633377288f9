"""Outliers compared with the month before, for people to look at before a close; they never block it.

A creator, site or member is an outlier if it has at least ``close_outlier_flattrs_min`` flattrs and
``close_outlier_factor`` times those of last month.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingest.contract.month import month_before
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Outlier:
    """A creator, member or site with its flattrs of both months."""

    kind: str
    name: str
    flattrs: int
    flattrs_before: int


def find_outliers(warehouse: Warehouse, month: int, settings: CloseSettings) -> list[Outlier]:
    """The outliers of a month, largest growth first, at most a hundred of each kind."""
    values = {
        "month": month,
        "previous_month": month_before(month),
        "factor": settings.close_outlier_factor,
        "flattrs_min": settings.close_outlier_flattrs_min,
    }
    return [Outlier(*row) for row in warehouse.rows(named("payout_outliers"), values, settings.clickhouse)]
