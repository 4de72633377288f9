"""500 generated answers, with every reason, partial and repeated, end the same in whatever order they are imported."""

from __future__ import annotations

import csv
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.payout.bank_messages import BOOKINGS, STATUS_REPORTS, Entry, Status, Transaction, bookings, status_report
from tests.payout.build import flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.payout.test_finance import DECEMBER, NOVEMBER, everything_verifies, following
from warehouse.payout.books.answers import Answer, came_back, reasons_to_hold
from warehouse.payout.books.matching import _NO_DAY
from warehouse.payout.books.payment_states import payment_standings
from warehouse.payout.books.returns import import_answers
from warehouse.payout.inputs import reason_codes
from warehouse.payout.inputs.creators import read_register
from warehouse.storage.client import Warehouse

CREATORS = 150
ANSWERS = 500
TABLE = Path(reason_codes.__file__).with_name("reason_codes.csv")


def follows() -> dict[str, str]:
    """What follows from each code, as the table has it."""
    with TABLE.open() as file:
        return {row["code"]: row["then"] for row in csv.DictReader(file.readlines()[1:])}


@dataclass
class Truth:
    """What happened to one payment, and so what must be in the books. In cents."""

    paid: int
    back: int = 0
    rejected: bool = False
    codes: set[str] = field(default_factory=set)

    @property
    def credited(self) -> int:
        return self.paid if self.rejected else min(self.paid, self.back)

    @property
    def state(self) -> str:
        if self.rejected:
            return "rejected"
        if not self.codes:
            return "not signed"
        return "returned" if self.back >= self.paid else "returned in part"


class World:
    """Draws what happens to payments, and writes the files in which banks tell it."""

    def __init__(self, paid: dict[str, int], seed: int) -> None:
        self.chance = random.Random(seed)
        self.truth = {payment: Truth(cents) for payment, cents in paid.items()}
        self.told: list[tuple[str, object]] = []
        codes = [*sorted(follows()), "XX99", "q"]
        events = itertools.count()
        while (event := next(events)) < len(codes) or len(self.told) < ANSWERS:
            payment = self.chance.choice(sorted(paid))
            code = codes[event % len(codes)]
            self.chance.choice((self.reject, self.return_all, self.return_part, self.return_part))(payment, code)

    def reject(self, payment: str, code: str) -> None:
        truth = self.truth[payment]
        truth.rejected = True
        truth.codes.add(code)
        amount = self.chance.choice(("", f"{truth.paid // 100}.{truth.paid % 100:02}"))
        self.tell("status", Status(payment, code=code, amount=amount, note=self.chance.choice(("", "so sorry"))))

    def return_all(self, payment: str, code: str) -> None:
        self.give_back(payment, code, self.truth[payment].paid)

    def return_part(self, payment: str, code: str) -> None:
        self.give_back(payment, code, self.chance.randint(1, self.truth[payment].paid))

    def give_back(self, payment: str, code: str, cents: int) -> None:
        self.truth[payment].back += cents
        self.truth[payment].codes.add(code)
        number = len(self.told)
        amount = f"{cents // 100}.{cents % 100:02}"
        self.tell("booking", Transaction(payment, amount, code, f"R{number}", f"T{number}"))

    def tell(self, kind: str, what: object) -> None:
        """Once, or several times: in a notification and in a statement, and again."""
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            self.told.append((kind, what))

    def files(self) -> list[bytes]:
        """All that was told, in files of one to forty answers."""
        rest = list(self.told)
        self.chance.shuffle(rest)
        files = []
        while rest:
            count = self.chance.randint(1, 40)
            part, rest = rest[:count], rest[count:]
            statuses = [what for kind, what in part if kind == "status"]
            transactions = [what for kind, what in part if kind == "booking"]
            if statuses:
                files.append(status_report(self.chance.choice(STATUS_REPORTS), "FL-1", statuses, group="PART"))  # type: ignore[arg-type]  # by its kind
            if transactions:
                files.append(bookings(self.chance.choice(BOOKINGS), self.entries(transactions)))  # type: ignore[arg-type]  # by its kind
        return files

    def entries(self, transactions: Sequence[Transaction]) -> list[Entry]:
        """One entry for all, or one each."""
        if self.chance.random() < 0.5:
            return [Entry(one.amount, [one]) for one in transactions]
        cents = sum(int(one.amount.replace(".", "")) for one in transactions)
        return [Entry(f"{cents // 100}.{cents % 100:02}", transactions, reference="BATCH")]


def in_books(warehouse: Warehouse) -> tuple[dict[str, int], dict[str, set[tuple[str, ...]]], dict[str, str]]:
    """Cents credited, kinds and codes of what holds, and the state, by payment."""
    credited: dict[str, int] = dict(
        warehouse.rows(
            "SELECT substring(cites, 9), sum(amount_micro) / 10000 FROM adjustments WHERE debit_class = 'payable' "
            "AND credit_class = 'creator' GROUP BY cites"
        )
    )
    holds: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for creator in read_register(warehouse).values():
        for prefix, code, payment in re.findall(r"(returned|ask): (\w+), [^;]*? \(payment (\S+)\)", creator.reason):
            assert creator.held
            holds[payment].add((prefix, code))
    states = {one.payment.payment_id: str(one.state) for one in payment_standings(warehouse, NOVEMBER)}
    return credited, dict(holds), states


@pytest.mark.timeout(300)  # some 170 imports
def test_five_hundred_answers_end_the_same_in_any_order_and_under_any_repetition(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("\n".join(f"mia c{n} {1 + n % 7}" for n in range(CREATORS))))
    pledge(warehouse, NOVEMBER, {"mia": 3000 * 1_000_000})
    close(warehouse, NOVEMBER)
    paid: dict[str, int] = dict(
        warehouse.rows("SELECT payment_id, toUInt64(paid_micro / 10000) FROM payouts WHERE payment_id != ''")
    )
    world = World(paid, seed=15)
    assert {code for truth in world.truth.values() for code in truth.codes} >= follows().keys()
    then = follows()
    prefix = {"account": "returned", "ask": "ask"}
    expected = (
        {payment: truth.credited for payment, truth in world.truth.items() if truth.credited},
        {
            payment: found
            for payment, truth in world.truth.items()
            if (found := {(prefix[kind], code) for code in truth.codes if (kind := then.get(code, "ask")) != "again"})
        },
        {payment: truth.state for payment, truth in world.truth.items()},
    )
    for seed in (1, 2, 3):
        for table in ("adjustments", "bank_answers", "creators"):
            warehouse.command(f"TRUNCATE TABLE {table}")
        chance = random.Random(seed)
        files = world.files()
        for content in [*chance.sample(files, len(files)), *chance.sample(files, 10)]:
            path = tmp_path / "answer.xml"
            path.write_bytes(content)
            import_answers(warehouse, path)
        assert in_books(warehouse) == expected
    following(warehouse, DECEMBER)
    close(warehouse, DECEMBER)
    everything_verifies(warehouse)


NAMES = st.sampled_from(("", "a", "b", "c"))
PARTS = st.builds(
    lambda kind, cents, code, one, two, three: Answer(
        NOVEMBER, "FL-1", kind, cents, "EUR", code, "", False, one, two, three, _NO_DAY
    ),
    st.sampled_from(("returned", "returned", "returned", "rejected")),
    st.integers(1, 10),
    st.sampled_from(("", "AC04", "MS03", "AM04")),
    NAMES, NAMES, NAMES,
)  # fmt: skip


@given(st.lists(PARTS, max_size=8), st.randoms(use_true_random=False))
def test_rules_look_at_no_order_and_no_repetition_and_only_grow(answers: list[Answer], chance: random.Random) -> None:
    other = [*answers, *chance.choices(answers, k=3)] if answers else []
    chance.shuffle(other)
    assert came_back(20, answers) == came_back(20, other) <= 20
    assert reasons_to_hold(answers) == reasons_to_hold(other)
    for count in range(len(answers)):
        assert came_back(20, answers[:count]) <= came_back(20, answers)
    if answers and all(answer.account_reference and answer.kind == "returned" for answer in answers):
        names = {answer.account_reference for answer in answers}
        assert came_back(1000, answers) >= sum(
            max(answer.amount_micro for answer in answers if answer.account_reference == name) for name in names
        )
