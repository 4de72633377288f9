"""Months: ``2026-11`` as text, 202611 as an integer, and their bounds in milliseconds UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import Meta

_MONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
#: The months that lie entirely within the range of times.
MONTH_FIRST: Final = 197001
MONTH_LAST: Final = 224808
#: The same rule as a type, for decoding clicks from the log.
MonthText = Annotated[
    str, Meta(pattern=r"^(19[7-9][0-9]|2[01][0-9]{2}|22[0-3][0-9]|224[0-7])-(0[1-9]|1[0-2])\Z|^2248-0[1-8]\Z")
]


def parse_month(text: str) -> int:
    """``2026-11`` as 202611. Raises ``ValueError`` with a message for users."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a month: write it as YYYY-MM, such as 2026-11")
    month = int(found[1]) * 100 + int(found[2])
    if not MONTH_FIRST <= month <= MONTH_LAST:
        raise ValueError(f"{text} is outside {month_text(MONTH_FIRST)} to {month_text(MONTH_LAST)}")
    return month


def month_text(month: int) -> str:
    """202611 as ``2026-11``."""
    return f"{month // 100}-{month % 100:02}"


def month_of(at_ms: int) -> int:
    """The month (UTC) of a time, such as 202611 for November 2026."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.year * 100 + at.month


def month_start_ms(month: int) -> int:
    """The first millisecond of a month such as 202611."""
    return int(datetime(month // 100, month % 100, 1, tzinfo=UTC).timestamp()) * 1000


def month_after(month: int) -> int:
    """The next month: 202612 -> 202701."""
    return month + 1 if month % 100 < 12 else month + 89


def month_before(month: int) -> int:
    """The previous month: 202701 -> 202612."""
    return month - 1 if month % 100 > 1 else month - 89
