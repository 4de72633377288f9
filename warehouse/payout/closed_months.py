"""Reads of closed months: typed rows from the published tables. An open month has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Payout:
    """One creator's line of a closed month: carried_in + held_in + earned + adjusted = paid + carried_out + held_out.

    Money in micro-units of ``currency``. ``reason`` is paid, or why nothing is: below_minimum, held, unclaimed, debt,
    nothing.
    """

    month: int
    creator_id: str
    currency: str
    members: int
    flattrs: int
    earned_micro: int
    carried_in_micro: int
    held_in_micro: int
    adjusted_micro: int
    paid_micro: int
    carried_out_micro: int
    held_out_micro: int
    reason: str
    payment_id: str


def sealed_months(warehouse: Warehouse) -> list[int]:
    """All closed months, oldest first."""
    return [int(month) for (month,) in warehouse.rows("SELECT DISTINCT month FROM seals ORDER BY month")]


def top_payouts(warehouse: Warehouse, month: int, count: int) -> list[Payout]:
    """The ``count`` creators who earned most, ties by name; none while the month is open."""
    return [Payout(*row) for row in warehouse.rows(named("payout_top"), {"month": month, "count": count})]


def all_payouts(warehouse: Warehouse, month: int) -> Iterator[Payout]:
    """Every line, by creator; none while the month is open."""
    return (Payout(*row) for row in warehouse.stream(named("payout_all"), {"month": month}))
