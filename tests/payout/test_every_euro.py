"""Every euro that was collected ends in one place, over months of holds, returns, corrections and charge-backs.

The oracle is a handful of sums over what the test itself did; it shares no code with the close.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from beancount import loader

from ingest.contract.month import month_after
from tests.payout.build import closing, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.books.beancount import beancount_text
from warehouse.payout.books.returns import import_answers
from warehouse.payout.close.proof import stored_until
from warehouse.payout.inputs import adjustments, creators
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.storage.client import Warehouse

CENT = 10_000
MEMBERS = [f"m{number}" for number in range(6)]
CREATORS = [f"c{number}" for number in range(5)]
FIRST, MONTHS = 202611, 5


class Year:
    """Months of random events; ``sums`` is what each was about, in micro-units."""

    def __init__(self, warehouse: Warehouse, folder: Path, seed: int) -> None:
        self.warehouse, self.folder, self.draw = warehouse, folder, random.Random(seed)
        self.rules = closing(close_noclick=self.draw.choice(["charity", "carry", "keep"]), close_minimum_minor=100)
        self.sums: Counter[str] = Counter()
        self.taken_back: Counter[tuple[int, str]] = Counter()
        self.charged: dict[tuple[int, str], int] = {}

    def month(self, month: int) -> None:
        names = self.draw.sample(MEMBERS, self.draw.randint(2, 6))
        lines = {(self.draw.choice(MEMBERS), self.draw.choice(CREATORS)) for _ in range(8)}
        state_month(
            self.warehouse, month, flattrs_of("\n".join(f"{m} {c} {self.draw.randint(1, 4)}" for m, c in lines))
        )
        amounts = {name: self.draw.randint(200, 900) * CENT for name in names}
        pledge(self.warehouse, month, amounts)
        self.charged |= {(month, name): amount for name, amount in amounts.items()}
        self.sums["collected"] += sum(amounts.values())
        close(self.warehouse, month, self.rules)

    def between(self, month: int) -> None:
        for event in self.draw.choices([self.hold, self.come_back, self.correct, self.charge_back], k=4):
            event(month)

    def hold(self, _: int) -> None:
        name = self.draw.choice(
            sorted(name for (name,) in self.warehouse.rows("SELECT DISTINCT creator_id FROM payouts"))
        )
        if self.draw.random() < 0.6:
            creators.hold(self.warehouse, name, "asked")
        else:
            creators.release(self.warehouse, name)

    def come_back(self, month: int) -> None:
        rows = self.warehouse.rows(
            f"SELECT payment_id, paid_micro FROM payouts WHERE month = {month} AND paid_micro > 0"
        )
        if rows:
            payment, micro = self.draw.choice(sorted(rows))
            file = self.folder / "returns.csv"
            file.write_text(f"payment_id,amount,reason\n{payment},{micro // CENT / 100:.2f},AC04\n")
            self.sums["returned"] += import_answers(self.warehouse, file).credited["EUR"]

    def correct(self, month: int) -> None:
        ((name,), *_) = sorted(self.warehouse.rows(f"SELECT creator_id FROM payouts WHERE month = {month}"))
        amount = self.draw.choice([1, -1]) * self.draw.randint(1, 50) * CENT
        adjustments.correct(self.warehouse, name, amount, against="fee", month=month, reason=str(self.draw.random()))

    def charge_back(self, month: int) -> None:
        (of, name), amount = self.draw.choice(sorted(self.charged.items()))
        if (of, name) in self.taken_back or of > month:
            return
        self.taken_back[of, name] = amount
        file = self.folder / "pledges.csv"
        text = f"{of // 100}-{of % 100:02},{amount // CENT / 100:.2f},EUR,no"
        file.write_text(f"member_id,month,amount,currency,paid\n{name},{text}\n")
        assert import_pledges(self.warehouse, file, "EUR").charged_back == 1


@pytest.mark.parametrize("seed", range(4))
def test_every_euro_collected_ends_in_one_place(warehouse: Warehouse, tmp_path: Path, seed: int) -> None:
    year, month = Year(warehouse, tmp_path, seed), FIRST
    for place in range(MONTHS):
        year.month(month)
        assert verify_month(warehouse, month).clean
        if place < MONTHS - 1:
            year.between(month)
            month = month_after(month)
    proofs = stored_until(warehouse, month)
    last = proofs[-1]
    ends = Counter(
        paid=sum(proof.paid_micro for proof in proofs),
        fee=sum(proof.fee_micro for proof in proofs),
        charity=sum(proof.charity_micro for proof in proofs),
        charged_back=sum(proof.charged_back_micro for proof in proofs),
        held=last.held_balance_micro,
        carried=last.carried_balance_micro,
    )
    assert year.sums["collected"] == sum(ends.values())
    assert ends["charged_back"] == sum(year.taken_back.values())
    # What was paid is what left the account: every payment less what came back of it.
    payments = sum(micro for (micro,) in warehouse.rows("SELECT paid_micro FROM payouts"))
    assert ends["paid"] == payments - year.sums["returned"]
    taken = [name for proof in proofs for name in proof.adjustments]
    assert sorted(taken) == sorted(name for (name,) in warehouse.rows("SELECT id FROM adjustments"))
    _, errors, _ = loader.load_string("".join(beancount_text(warehouse, proofs)))
    assert errors == []
