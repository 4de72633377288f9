"""Months as people write them and as tables hold them."""

from __future__ import annotations

import re

from ingest.click import month_start_ms
from warehouse.payout.errors import PayoutRefused

_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])", re.ASCII)


def parse_month(text: str) -> int:
    """``2026-11`` as 202611. Raises ``PayoutRefused``."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise PayoutRefused(f"{text!r} is not a month: write it as YYYY-MM, such as 2026-11.")
    return int(found[1]) * 100 + int(found[2])


def month_text(month: int) -> str:
    """202611 as ``2026-11``."""
    return f"{month // 100}-{month % 100:02}"


def month_before(month: int) -> int:
    """202701 comes after 202612."""
    return month - 1 if month % 100 > 1 else month - 89


def cutoff_ms(month: int, grace_s: int) -> int:
    """The moment from which on a record is late for the month: its end plus grace, in ms."""
    after = month + 1 if month % 100 < 12 else month + 89
    return month_start_ms(after) + grace_s * 1000
