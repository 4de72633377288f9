"""Why a month is not closed or money is not paid. Each message says what is missing and what to do.

None of these is a ``WarehouseError``: a refusal is not an outage, and an outage is not a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PayoutError(Exception):
    """Base class: the books do not allow it. The warehouse itself works."""


class PayoutRefused(PayoutError):
    """The close, import or export is not possible now; nothing was written."""


class MonthLocked(PayoutRefused):
    """Another process is closing a month: wait for it, then look at the result."""


class NotConserved(PayoutError):
    """The computed month does not balance to the micro-unit. Nothing was published; report it as a defect."""


def one_line(text: str, needed: str) -> str:
    """A person's words for the books, blanks around them cut. Raises ``PayoutRefused``: ``needed``, printable."""
    if not text.strip() or not text.isprintable():
        raise PayoutRefused(f"{needed}, one line of printable text.")
    return text.strip()


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a ``ValueError`` of the click's contract into ``PayoutRefused`` with the same message."""
    try:
        yield
    except ValueError as error:
        raise PayoutRefused(f"{error}.") from None
