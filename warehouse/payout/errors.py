"""Why a month is not closed or money not paid. Each message says what is missing and what to do.

None of it is an error of the warehouse: what is refused is no outage, and an outage is no refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PayoutError(Exception):
    """The books say no. The warehouse works."""


class PayoutRefused(PayoutError):
    """The close, import or export cannot be done now; nothing was written."""


class MonthLocked(PayoutRefused):
    """Another process is closing the month: wait for it, then ask for the result."""


class NotConserved(PayoutError):
    """The computed month does not balance to the micro-unit. Nothing was published; this is a defect to report."""


@contextmanager
def refusing() -> Iterator[None]:
    """What breaks a rule of the click's contract in here (``ValueError``) is refused with its sentence."""
    try:
        yield
    except ValueError as error:
        raise PayoutRefused(f"{error}.") from None
