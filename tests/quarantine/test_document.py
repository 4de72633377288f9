"""The two tables of docs/quarantine.md, computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.payout.build import flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.quarantine.build import MONTH, flag, release
from tests.quarantine.test_corrections import gains
from warehouse.quarantine.desk import Outcome
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/quarantine.md").read_text()
BOB, ROB = Subject.of(member_id="mia", creator_id="bob"), Subject.of(member_id="rob")


def euros(micro: int) -> str:
    return f"{micro // 1_000_000}.{micro % 1_000_000 // 10_000:02}"


@pytest.fixture
def month(warehouse: Warehouse) -> Warehouse:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1\nrob rex 9"))
    pledge(warehouse, MONTH, {"mia": 2_000_000, "rob": 2_000_000})
    return warehouse


#: By row: the steps before the close.
BEFORE: dict[str, list[tuple[Callable[[Warehouse, Subject], Outcome], Subject]]] = {
    "nothing flagged": [],
    "Mia's flattr of Bob flagged": [(flag, BOB)],
    "Rob flagged": [(flag, ROB)],
    "both released again": [(flag, BOB), (flag, ROB), (release, ROB), (release, BOB)],
}


@pytest.mark.parametrize("row", BEFORE)
def test_what_the_document_says_of_a_close_is_what_it_pays(month: Warehouse, row: str) -> None:
    for step, subject in BEFORE[row]:
        step(month, subject)
    proof = close(month)
    paid: dict[str, int] = dict(month.rows("SELECT creator_id, earned_micro FROM payouts"))
    cells = [euros(paid.get(creator, 0)) for creator in ("ada", "bob", "rex")]
    assert f"| {row} | {' | '.join(cells)} | {euros(proof.charity_micro)} |" in DOCUMENT


def test_what_the_document_says_of_corrections_is_what_they_are(month: Warehouse) -> None:
    flag(month, ROB)
    close(month)
    assert gains(release(month, ROB).corrections) == {("rex", "charity"): 1_800_000}
    assert gains(flag(month, BOB).corrections) == {("bob", "charity"): -600_000}
    assert gains(release(month, BOB).corrections) == {("bob", "charity"): 600_000}


def test_release_of_what_others_got_is_paid_by_the_fee_account(month: Warehouse) -> None:
    flag(month, BOB)
    close(month)
    assert gains(release(month, BOB).corrections) == {("bob", "fee"): 600_000}
