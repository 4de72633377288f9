"""Charge-backs (case P14): what a bank takes back of a closed month is an entry of the next close."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.payout.build import flattrs_of, pledge, state_month
from tests.payout.test_close import EUR, MONTH, close, payouts
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.books.beancount import beancount_text
from warehouse.payout.close.proof import stored_until
from warehouse.payout.inputs.chargebacks import ChargeBack, charge_backs
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.payout.inputs.strict_csv import ImportRefused
from warehouse.storage.client import Warehouse

HEADER = "member_id,month,amount,currency,paid\n"
DECEMBER, JANUARY = 202612, 202701


@pytest.fixture
def closed(warehouse: Warehouse) -> Warehouse:
    """November is closed: mia pledged 20.00, zoe 2.00."""
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nzoe bob 1"))
    pledge(warehouse, MONTH, {"mia": 20 * EUR, "zoe": 2 * EUR})
    close(warehouse)
    state_month(warehouse, DECEMBER, flattrs_of("zoe ada 1"))
    pledge(warehouse, DECEMBER, {"zoe": 2 * EUR})
    return warehouse


def written(tmp_path: Path, rows: str, name: str = "p_chargeback.csv") -> Path:
    file = tmp_path / name
    file.write_text(HEADER + rows)
    return file


def test_charge_back_of_a_closed_month_is_an_entry_of_the_next_close(closed: Warehouse, tmp_path: Path) -> None:
    done = import_pledges(closed, written(tmp_path, "mia,2026-11,20.00,EUR,no\n"), "EUR")
    assert (done.version, done.charged_back) == (0, 1)
    paid = payouts(closed)
    proof = close(closed, DECEMBER)
    assert proof.charged_back_micro == 20 * EUR
    assert proof.fee_micro == 200_000 - 20 * EUR
    assert proof.balanced
    assert payouts(closed) == paid
    assert payouts(closed, DECEMBER) == {"ada": (1_800_000, 0, 0, "paid")}
    entry = "SELECT month, debit_class, credit_class, amount_micro, cites FROM ledger WHERE kind = 'chargeback'"
    assert closed.rows(entry) == [(DECEMBER, "fee", "cash", 20 * EUR, "pledge 2026-11 mia")]
    for month in (MONTH, DECEMBER):
        assert verify_month(closed, month).clean, month


def test_charge_back_enters_once_however_often_it_is_imported(closed: Warehouse, tmp_path: Path) -> None:
    rows = "mia,2026-11,20.00,EUR,no\n"
    assert import_pledges(closed, written(tmp_path, rows), "EUR").charged_back == 1
    assert import_pledges(closed, written(tmp_path, rows), "EUR").charged_back == 0
    mixed = written(tmp_path, rows + "zoe,2027-01,2.00,EUR,yes\n", "mixed.csv")
    done = import_pledges(closed, mixed, "EUR")
    assert (done.charged_back, done.rows, done.months) == (0, 1, (JANUARY,))
    assert close(closed, DECEMBER).charged_back_micro == 20 * EUR
    state_month(closed, JANUARY, flattrs_of("zoe ada 1"))
    assert close(closed, JANUARY).charged_back_micro == 0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("mia,2026-11,20.01,EUR,no\n", "20.01 of mia in 2026-11 is more than the 20.00"),
        ("leo,2026-11,2.00,EUR,no\n", "leo was charged nothing in 2026-11"),
        ("mia,2026-11,20.00,EUR,yes\n", "only what was charged back of it"),
        ("mia,2026-11,20.00,EUR,no\nzoe,2026-11,3.00,EUR,no\n", "3.00 of zoe"),
    ],
)
def test_what_was_not_charged_is_not_charged_back_and_nothing_enters(
    closed: Warehouse, tmp_path: Path, rows: str, said: str
) -> None:
    with pytest.raises(ImportRefused, match=said):
        import_pledges(closed, written(tmp_path, rows), "EUR")
    assert closed.rows("SELECT count() FROM adjustments") == [(0,)]


def test_parts_of_a_pledge_are_told_apart_by_their_references_and_never_exceed_it(closed: Warehouse) -> None:
    parts = [ChargeBack(MONTH, "mia", 15 * EUR, "disputed", f"bank-{n}") for n in range(2)]
    made, problems = charge_backs(closed, "EUR", parts)
    assert [entry.amount_micro for entry in made] == [15 * EUR]
    assert problems == ["15.00 of mia in 2026-11 is more than the 5.00 that were charged and not taken back yet"]


def test_books_balance_with_what_was_charged_back(closed: Warehouse, tmp_path: Path) -> None:
    from beancount import loader

    import_pledges(closed, written(tmp_path, "mia,2026-11,20.00,EUR,no\n"), "EUR")
    close(closed, DECEMBER)
    _, errors, _ = loader.load_string("".join(beancount_text(closed, stored_until(closed, DECEMBER))))
    assert errors == []
