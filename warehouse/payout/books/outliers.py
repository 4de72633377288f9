"""What stands out before a month is closed, against the month before: for people to look at, never to block.

Bounds are settings: a creator, site or member is named when it has at least ``outlier_flattrs_min``
flattrs and ``outlier_factor`` times those of last month.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingest.contract.month import month_before
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Outlier:
    """One name of a kind (creator, member, site) with its flattrs of both months."""

    kind: str
    name: str
    flattrs: int
    flattrs_before: int


def find_outliers(warehouse: Warehouse, month: int, settings: CloseSettings) -> list[Outlier]:
    """Largest growth first, a hundred of each kind at most."""
    values = {
        "month": month,
        "previous_month": month_before(month),
        "factor": settings.close_outlier_factor,
        "flattrs_min": settings.close_outlier_flattrs_min,
    }
    return [Outlier(*row) for row in warehouse.rows(named("payout_outliers"), values, settings.clickhouse)]
