"""Months of the books: as people write them, and until when a record counts for one."""

from __future__ import annotations

from ingest.contract import month as months
from ingest.contract.month import month_after, month_start_ms
from warehouse.payout.errors import refusing


def parse_month(text: str) -> int:
    """``2026-11`` as 202611. Raises ``PayoutRefused``."""
    with refusing():
        return months.parse_month(text)


def cutoff_ms(month: int, grace_s: int) -> int:
    """The moment from which on a record is late for the month: its end plus grace, in ms."""
    return month_start_ms(month_after(month)) + grace_s * 1000
