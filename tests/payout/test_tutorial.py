"""Every number of docs/month-end.md, derived again."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from deploy.cli.commands.payouts import print_imported
from deploy.cli.finance import print_proof
from tests.payout.build import Flattr, closing, pledge, state_month
from tests.payout.test_close import close
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.books.creator_statement import creator_statement
from warehouse.payout.books.returns import import_answers
from warehouse.payout.books.statements import member_statement
from warehouse.payout.close.proof import Proof
from warehouse.payout.collecting.answers import import_results
from warehouse.payout.collecting.collection import Terms, collect
from warehouse.payout.collecting.mandates import import_mandates
from warehouse.payout.collecting.pain008 import Creditor
from warehouse.payout.inputs.pledge_preview import Owed
from warehouse.payout.inputs.pledge_versions import standing_pledges
from warehouse.payout.inputs.pledges import read_pledges
from warehouse.payout.inputs.reason_codes import reason_of
from warehouse.payout.split import tie_hash
from warehouse.storage.client import Warehouse

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "month-end.md").read_text()
MONTH = 202611


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found is not None
    return found[1]


def table(name: str) -> list[list[str]]:
    return [line.split() for line in block(name).splitlines()]


@pytest.fixture
def proof(warehouse: Warehouse) -> Proof:
    clicks = table("clicks")
    flattred = Counter((member, creator, thing) for member, action, creator, thing in clicks if action == "flattr")
    undone = {(member, creator, thing) for member, action, creator, thing in clicks if action == "undo"}
    state_month(
        warehouse,
        MONTH,
        [Flattr(*key, undone=key in undone) for key in flattred],
        duplicates=sum(flattred.values()) - len(flattred),
    )
    pledges, problems = read_pledges(block("pledges"), "EUR")
    assert problems == []
    amounts = {row.member_id: row.amount_micro for row in pledges}
    pledge(warehouse, MONTH, amounts, unpaid=[row.member_id for row in pledges if not row.paid])
    return close(warehouse, MONTH, closing(close_minimum_minor=100))


def test_what_the_bank_answers_makes_the_pledges_of_the_page(warehouse: Warehouse, tmp_path: Path) -> None:
    mandates, answers = tmp_path / "mandates.csv", tmp_path / "answers.csv"
    mandates.write_text(block("mandates"), encoding="utf-8")
    answers.write_text(block("answers"))
    pledges, _ = read_pledges(block("pledges"), "EUR")
    pledge(
        warehouse,
        MONTH,
        {row.member_id: row.amount_micro for row in pledges},
        unpaid=[row.member_id for row in pledges],
    )
    told, on = date(2026, 11, 2), date(2026, 11, 18)
    assert import_mandates(warehouse, mandates, told) == 4
    creditor = Creditor("Flattr", "DE89370400440532013000", "COBADEFF", "DE98ZZZ09999999999")
    file = collect(warehouse, MONTH, Terms(creditor, on, told, closing()), told)
    assert file.count(b"<DrctDbtTxInf>") == 4
    assert b"<CtrlSum>8.00</CtrlSum>" in file
    assert import_results(warehouse, answers).new == 4
    standing = {one.member_id: one.owed for one in standing_pledges(warehouse, [MONTH])}
    assert standing == {row.member_id: Owed(row.amount_micro, row.currency, row.paid) for row in pledges}


def test_every_sum_on_the_page_is_right() -> None:
    sums = re.findall(r"`([0-9][0-9 +*/-]*) = ([0-9]+)(?: rest ([0-9]+))?`", TEXT)
    assert len(sums) >= 14
    for left, result, rest in sums:
        product, _, divisor = left.partition(" / ")
        terms = re.split(r" (?=[+-])", product)
        value = sum(_product(term) for term in terms)
        down, remainder = divmod(value, int(divisor)) if divisor else (value, 0)
        assert (down, remainder) == (int(result), int(rest or 0)), left


def _product(term: str) -> int:
    value = -1 if term.startswith("-") else 1
    for factor in term.lstrip("+- ").split(" * "):
        value *= int(factor)
    return value


def test_close_states_what_the_page_says(
    warehouse: Warehouse, proof: Proof, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = warehouse.rows("SELECT member_id, creator_id, flattrs, share_micro FROM shares")
    assert sorted((m, c, str(n)) for m, c, n, _ in rows) == sorted(map(tuple, table("flattrs")))
    assert sorted((m, c, str(micro)) for m, c, _, micro in rows) == sorted(map(tuple, table("shares")))
    lines = warehouse.rows(
        "SELECT creator_id, earned_micro, paid_micro, carried_out_micro, reason FROM payouts ORDER BY creator_id"
    )
    assert [list(map(str, line)) for line in lines] == table("payouts")
    print_proof(proof)
    said = "2026-11 is closed.\n" + re.sub(r"; seal .*", "", capsys.readouterr().out)
    assert said == block("close")
    assert verify_month(warehouse, MONTH).problems == []


def test_what_comes_back_is_booked_as_the_page_says(
    warehouse: Warehouse, proof: Proof, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert proof.month == MONTH
    path = tmp_path / "returned.csv"
    path.write_text(block("returned"))
    print_imported(import_answers(warehouse, path))
    assert capsys.readouterr().out == block("booked")
    rules = closing(close_minimum_minor=100)
    state_month(warehouse, 202612, [])
    close(warehouse, 202612, rules)
    ((held,),) = warehouse.rows("SELECT held_out_micro FROM payouts WHERE month = 202612 AND creator_id = 'bob'")
    assert f"`1110000 + 4285 = {held}`" in TEXT
    for code, words in re.findall(r"([A-Z]{2}[0-9]{2}) ([a-z][a-z ]+)", TEXT):
        meaning = reason_of(code).meaning
        assert any(word in meaning for word in words.split()), f"{code} is not {words} but {meaning}"


def test_ties_fall_as_the_page_says() -> None:
    hashes = re.search(r"dan has (\d+), ada (\d+), bob (\d+)", TEXT)
    assert hashes is not None
    assert [tie_hash(MONTH, "leo", name) for name in ("dan", "ada", "bob")] == [int(text) for text in hashes.groups()]


def test_statements_of_one_member_and_one_creator_repeat_the_split_of_the_page(
    warehouse: Warehouse, proof: Proof
) -> None:
    leo = member_statement(warehouse, proof, "leo")
    for share in leo.shares:
        line = (
            f"- {share.creator_id}: `1800000 * {share.flattrs} / 7 = {share.rounded_down_micro} rest {share.remainder}`"
        )
        assert line in TEXT
    assert sum(share.share_micro for share in leo.shares) == leo.pool_micro == 1_800_000
    ada = creator_statement(warehouse, proof, "ada")
    assert sorted(share.share_micro for share in ada.shares) == [514_286, 1_200_000]
    assert ada.payout.earned_micro == 1_714_286
