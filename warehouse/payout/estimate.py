"""Estimates for an open month: a member's split and a creator's take if it ended now.

Money is in micro-units. The functions block: call them from a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingest.contract.month import month_before
from warehouse.counts.counts import less_quarantined
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.money import fee
from warehouse.payout.split import split
from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class Share:
    """What one creator would get of a member's pool."""

    creator_id: str
    flattrs: int
    share_micro: int


@dataclass(frozen=True)
class MemberSplit:
    """A member's month: pledge - fee + carried in = pool = the sum of the shares, if there are any flattrs."""

    pledge_micro: int
    fee_micro: int
    carried_in_micro: int
    pool_micro: int
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class CreatorTake:
    """What a creator would earn, rounded down per member: below the close's result by under one micro-unit each."""

    members: int
    flattrs: int
    earned_micro: int


@dataclass(frozen=True)
class MonthMoney:
    """What members have paid for a month so far."""

    members: int
    pledged_micro: int
    fee_micro: int


def member_split(
    warehouse: Warehouse, month: int, member_id: str, rules: CloseSettings, flagged: int = 1
) -> MemberSplit:
    """Divide the member's pool as the close would, largest share first; ``flagged`` as in ``counts.rankings``."""
    params = {"month": month, "previous_month": month_before(month), "member_id": member_id}
    pledge, carried = (int(value or 0) for value in warehouse.rows(named("member_pool"), params)[0])
    page = {"month": month, "member_id": member_id, "limit": 1_000_000, "after_flattrs": 2**63, "after_id": ""}
    flattrs = {
        creator: int(count) for creator, count in warehouse.rows(less_quarantined("member_creators", flagged), page)
    }
    fee_micro = fee(pledge, rules.close_fee_bps)
    pool = pledge - fee_micro + carried
    shares = split(pool, flattrs, month=month, member_id=member_id)
    ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    lines = tuple(Share(creator, flattrs[creator], micro) for creator, micro in ranked)
    return MemberSplit(pledge, fee_micro, carried, pool, lines)


def creator_take(
    warehouse: Warehouse, month: int, creator_id: str, rules: CloseSettings, flagged: int = 1
) -> CreatorTake:
    """Sum the creator's share of each supporter's pool; ``flagged`` as in ``counts.rankings``."""
    params = {
        "month": month,
        "previous_month": month_before(month),
        "creator_id": creator_id,
        "fee_bps": rules.close_fee_bps,
    }
    members, flattrs, earned = warehouse.rows(less_quarantined("creator_take", flagged), params)[0]
    return CreatorTake(int(members), int(flattrs), int(earned))


def month_money(warehouse: Warehouse, month: int, rules: CloseSettings) -> MonthMoney:
    """Sum the month's paid pledges."""
    params = {"month": month, "fee_bps": rules.close_fee_bps}
    members, pledged, fees = warehouse.rows(named("month_money"), params)[0]
    return MonthMoney(int(members), int(pledged), int(fees))
