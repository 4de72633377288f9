"""The checks find what a wrong statement would do, to the micro-unit, before anything is published."""

from __future__ import annotations

import pytest

from tests.payout.build import clock_after, closing, drained, flattrs_of, pledge, state_month
from warehouse.payout.close.close import close_month
from warehouse.payout.errors import NotConserved
from warehouse.storage.client import Warehouse

MONTH = 202611
OF_ADA = "WHERE creator_id = 'ada'"
CARRY_ONE = "carried_out_micro = carried_out_micro + 1"
POOL_OF_MIA = "pool of member mia"
PAYOUT_OF_ADA = "payout of creator ada"


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("pools", "UPDATE creator_micro = arrayMap(m -> m + 1, creator_micro) WHERE member_id = 'mia'", POOL_OF_MIA),
        ("pools", "UPDATE fee_micro = fee_micro + 1 WHERE member_id = 'mia'", POOL_OF_MIA),
        ("pools", "UPDATE creator_micro = arrayReverse(creator_micro) WHERE member_id = 'mia'", "shares by creator"),
        ("pools", "DELETE WHERE member_id = 'oda'", "pledges = charged is off by 2000000"),
        ("payouts", f"UPDATE paid_micro = paid_micro + 10000 {OF_ADA}", PAYOUT_OF_ADA),
        ("payouts", f"UPDATE earned_micro = earned_micro + 1, {CARRY_ONE} {OF_ADA}", "shares = earned is off by -1"),
        ("payouts", f"UPDATE paid_micro = paid_micro - 1, {CARRY_ONE} {OF_ADA}", PAYOUT_OF_ADA),
        ("payouts", f"UPDATE payment_id = '' {OF_ADA}", PAYOUT_OF_ADA),
        ("ledger", "UPDATE amount_micro = amount_micro + 1 WHERE kind = 'earn' AND owner = 'ada'", "account `pool`"),
        ("ledger", "DELETE WHERE kind = 'fee'", "on `fee`"),
        ("ledger", "DELETE WHERE kind = 'pay'", "on `payable`"),
    ],
)
def test_one_wrong_line_stops_the_close_and_nothing_is_published(
    warehouse: Warehouse, table: str, change: str, said: str
) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 3\nmia bob 2\nnil bob 1"))
    pledge(warehouse, MONTH, {"mia": 2_000_000, "nil": 2_000_000, "oda": 2_000_000})
    settings = closing()

    def tamper(step: str, _percent: int) -> None:
        if step == "compute":
            warehouse.command(f"ALTER TABLE {table}_staging {change} SETTINGS mutations_sync = 1")

    with pytest.raises(NotConserved, match=said):
        close_month(
            warehouse,
            MONTH,
            clock=clock_after(MONTH, settings),
            log_ends=drained,
            settings=settings,
            progress=tamper,
        )
    assert warehouse.rows("SELECT (SELECT count() FROM payouts), (SELECT count() FROM seals)") == [(0, 0)]
    again = close_month(warehouse, MONTH, clock=clock_after(MONTH, settings), log_ends=drained, settings=settings)
    assert (again.paid_micro, again.balanced) == (3_600_000, True), "the next close computes anew"
