"""What a member pledged, and where it went, over all months. Money in micro-units of the month's currency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warehouse.storage.client import Warehouse, named

#: More months than a member can have.
ALL: Final = 1 << 16


@dataclass(frozen=True)
class Pledge:
    """What a member pledges for a month, and whether it is paid."""

    month: int
    amount_micro: int
    currency: str
    paid: bool


@dataclass(frozen=True)
class ClosedMonth:
    """A closed month of a member: pledge - fee + carried_in = pool = shares + charity + kept + carried_out.

    ``shares`` are (creator, flattrs, micro-units).
    """

    month: int
    currency: str
    pledge_micro: int
    fee_micro: int
    carried_in_micro: int
    pool_micro: int
    charity_micro: int
    kept_micro: int
    carried_out_micro: int
    flattrs: int
    shares: list[tuple[str, int, int]]


def pledges(warehouse: Warehouse, member_id: str) -> list[Pledge]:
    """What a member pledges, by month."""
    rows = warehouse.rows(named("member_pledges"), {"member_id": member_id})
    return [Pledge(month, amount, currency, bool(paid)) for month, amount, currency, paid in rows]


def closed_months(warehouse: Warehouse, member_id: str, limit: int = ALL) -> list[ClosedMonth]:
    """The closed months in which a member has a line, newest first."""
    rows = warehouse.rows(named("member_closed_months"), {"member_id": member_id, "limit": limit})
    return [ClosedMonth(*row) for row in rows]
