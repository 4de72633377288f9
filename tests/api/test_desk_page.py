"""What finance sees beside the close: outliers, entries that wait, approvals, payments, the ledger."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.payout.build import closing, flattrs_of, pledge, state_month
from tests.payout.test_approvals import EVE, FAY, signed
from tests.payout.test_close import close
from tests.payout.test_finance import ALL_REGISTERED, register
from tests.support.serving import ask
from warehouse.payout.books.approval import enrol, public_half
from warehouse.payout.close.outliers import acknowledge, find_outliers
from warehouse.payout.close.proof import stored
from warehouse.payout.inputs.adjustments import correct, withhold
from warehouse.storage.client import Warehouse

EUR = 1_000_000
NOVEMBER, DECEMBER = 202611, 202612
RULES = closing(close_outlier_flattrs_min=10)


@pytest.fixture
def november(warehouse: Warehouse, tmp_path: Path) -> None:
    register(warehouse, tmp_path, ALL_REGISTERED)
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 2\nnil bob 1"))
    pledge(warehouse, NOVEMBER, {"mia": 20 * EUR, "nil": 20 * EUR})
    close(warehouse, NOVEMBER, RULES)


def page(api: str, month: str, query: str = "") -> str:
    return ask(f"{api}/months/{month}{query}").body.decode()


@pytest.mark.usefixtures("november")
def test_outliers_stand_on_the_page_until_somebody_has_looked(warehouse: Warehouse, api: str) -> None:
    state_month(warehouse, DECEMBER, flattrs_of("mia ada 40"))
    assert "Grew much" not in page(api, "2026-12")
    find_outliers(warehouse, DECEMBER, RULES)
    text = page(api, "2026-12")
    assert "creator ada: 40 flattrs, 2 the month before" in text
    assert "flattr month acknowledge 2026-12 --by NAME" in text
    acknowledge(warehouse, DECEMBER, "eve", RULES)
    text = page(api, "2026-12")
    assert "Seen by eve." in text
    assert "flattr month acknowledge" not in text


@pytest.mark.usefixtures("november")
def test_what_waits_for_the_next_close_leaves_the_page_with_it(warehouse: Warehouse, api: str) -> None:
    correct(warehouse, "ada", 250_000, against="fee", month=NOVEMBER, reason="<i>lost</i>")
    text = page(api, "2026-11")
    assert "Waits for the next close" in text
    assert "€0.250000" in text
    assert "&lt;i&gt;lost" in text
    state_month(warehouse, DECEMBER, flattrs_of("mia ada 1"))
    pledge(warehouse, DECEMBER, {"mia": 2 * EUR})
    close(warehouse, DECEMBER, RULES)
    assert "Waits for the next close" not in page(api, "2026-12")


@pytest.mark.usefixtures("november")
def test_approvals_and_what_came_back_are_named(warehouse: Warehouse, api: str) -> None:
    assert "Nobody has approved them yet" in page(api, "2026-11")
    for name, key in (("eve", EVE), ("fay", FAY)):
        enrol(warehouse, name, public_half(key))
    sealed = stored(warehouse, NOVEMBER)
    assert sealed is not None
    signed(warehouse, sealed, "eve")
    assert ": waits for 1 more" in page(api, "2026-11")
    signed(warehouse, sealed, "fay")
    text = page(api, "2026-11")
    assert re.search(r"File FL-202611-[0-9A-F]{20}: can be exported", text)
    assert text.count(": can be exported") == 1
    assert "2 payments, €36.00, to be made on" in text
    assert "eve approved it on" in text
    assert "fay approved it on" in text
    assert "flattr payouts export 2026-11 --format pain.001" in text
    withhold(warehouse, NOVEMBER, "bob", "under review")
    assert "1 withheld, €18.00 credited again" in page(api, "2026-11")


@pytest.mark.usefixtures("november")
@pytest.mark.parametrize(("find", "lines"), [("ada", 2), ("ADA", 2), ("fee", 1), ("nobody", 0), ("%25", 0), ("'", 0)])
def test_ledger_is_searched_by_text(api: str, find: str, lines: int) -> None:
    text = page(api, "2026-11", f"?find={find}")
    table = re.search(r"Ledger entries that name.*?</table>", text, re.DOTALL)
    assert (table[0].count("<tr>") - 1 if table else 0) == lines
    assert ("No entry of November 2026 names" in text) is (lines == 0)
