"""Months in the books: parsing what people write, and the cut-off after which a record is late."""

from __future__ import annotations

from ingest.contract import month as months
from ingest.contract.month import month_after, month_start_ms
from warehouse.payout.errors import refusing


def parse_month(text: str) -> int:
    """``2026-11`` as 202611. Raises ``PayoutRefused``."""
    with refusing():
        return months.parse_month(text)


def cutoff_ms(month: int, grace_s: int) -> int:
    """The moment from which a record is late for the month, in ms: the month's end plus grace."""
    return month_start_ms(month_after(month)) + grace_s * 1000
