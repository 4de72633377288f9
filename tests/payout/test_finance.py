"""Holds, claims, corrections, returns, approval, exports, provisional runs: money that does not go straight through."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ingest.contract.month import month_start_ms
from tests.payout.build import clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.payout.test_close import close, payouts
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.bank import sepa_name
from warehouse.payout.books import export
from warehouse.payout.books.beancount import beancount_text
from warehouse.payout.books.pain001 import bank_file
from warehouse.payout.books.payment_order import Debtor, PaymentOrder, Terms, order_of
from warehouse.payout.books.returns import import_answers
from warehouse.payout.close import outliers, provisional_run
from warehouse.payout.close.close import rehearse_month
from warehouse.payout.close.proof import Proof, stored_until
from warehouse.payout.close.settings import CloseSettings, Scheme
from warehouse.payout.closed_months import all_payouts
from warehouse.payout.csv_out import neutral
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs import adjustments, creators
from warehouse.quarantine import desk
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

EUR = 1_000_000
NOVEMBER, DECEMBER, JANUARY = 202611, 202612, 202701
DEBTOR = Debtor("Flattr", "DE89370400440532013000", "COBADEFF")
TERMS = Terms(DEBTOR, date(2026, 12, 3), "pain.001.001.09")
REGISTER = (
    "creator_id,name,iban,bic\n"
    "ada,Ada Lovelace,GB29NWBK60161331926819,\n"
    "bob,Bob Böhm,DE02120300000000202051,BYLADEM1001\n"
)


def november(warehouse: Warehouse) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 2\nmia bob 1\nnil bob 3\nnil cat 1"))
    pledge(warehouse, NOVEMBER, {"mia": 2 * EUR, "nil": 5 * EUR})


def following(warehouse: Warehouse, month: int) -> None:
    state_month(warehouse, month, flattrs_of("mia ada 1"))
    pledge(warehouse, month, {"mia": 2 * EUR})


def register(warehouse: Warehouse, folder: Path, text: str = REGISTER) -> None:
    path = folder / "creators.csv"
    path.write_text(text)
    creators.import_creators(warehouse, path)


def everything_verifies(warehouse: Warehouse) -> None:
    proofs = stored_until(warehouse, 209912)
    assert all(proof.balanced for proof in proofs)
    assert [verify_month(warehouse, proof.month).problems for proof in proofs] == [[]] * len(proofs)


def test_money_of_an_unclaimed_creator_waits_and_is_paid_when_they_sign_up(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    rules = closing(close_claim_required=True)
    november(warehouse)
    first = close(warehouse, NOVEMBER, rules)
    assert (first.paid_micro, first.held_micro) == (0, 6_300_000)
    assert payouts(warehouse)["ada"] == (0, 0, 1_200_000, "unclaimed")
    register(warehouse, tmp_path)
    following(warehouse, DECEMBER)
    second = close(warehouse, DECEMBER, rules)
    assert payouts(warehouse, DECEMBER)["ada"] == (3_000_000, 0, 0, "paid")
    assert payouts(warehouse, DECEMBER)["bob"] == (600_000 + 3_370_000, 5_000, 0, "paid")
    assert second.held_micro == -1_200_000 - 600_000 - 3_375_000
    everything_verifies(warehouse)


def test_held_creator_is_not_paid_until_released_and_an_import_leaves_the_hold(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    november(warehouse)
    creators.hold(warehouse, "bob", "account under review")
    register(warehouse, tmp_path)
    close(warehouse, NOVEMBER)
    assert payouts(warehouse)["bob"] == (0, 0, 3_975_000, "held")
    creators.release(warehouse, "bob")
    following(warehouse, DECEMBER)
    close(warehouse, DECEMBER)
    assert payouts(warehouse, DECEMBER)["bob"] == (3_970_000, 5_000, 0, "paid")
    everything_verifies(warehouse)


@pytest.mark.parametrize("reason", ["returned: AC04", "asked; ask: NARR", "two\nlines", "\x1b[31mred"])
def test_hold_whose_reason_looks_like_a_banks_is_refused(warehouse: Warehouse, reason: str) -> None:
    """Another account would lift it, though a person put it."""
    with pytest.raises(PayoutRefused, match=r"begins as a bank's do|one line of printable text"):
        creators.hold(warehouse, "ada", reason)


def test_hold_without_a_reason_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(PayoutRefused, match="needs a reason"):
        creators.hold(warehouse, "bob", " ")


def test_register_with_a_bad_row_is_not_imported(warehouse: Warehouse, tmp_path: Path) -> None:
    bad = REGISTER + "cat,Cat,DE02120300000000202052,\nada,Ada,GB29NWBK60161331926819,\ndan,,DE02120300000000202051,x\n"
    with pytest.raises(PayoutRefused) as refused:
        register(warehouse, tmp_path, bad)
    assert re.findall(r"line (\d+): (\w+)", str(refused.value)) == [("4", "iban"), ("5", "line"), ("6", "name")]
    assert creators.read_register(warehouse) == {}


def test_correction_is_an_entry_of_the_next_month_that_cites_the_closed_line(warehouse: Warehouse) -> None:
    november(warehouse)
    close(warehouse, NOVEMBER)
    adjustments.correct(warehouse, "ada", 250_000, against="fee", month=NOVEMBER, reason="flattrs lost on 3 November")
    adjustments.correct(warehouse, "bob", -100_000, against="charity", month=NOVEMBER, reason="counted twice")
    again = adjustments.correct(
        warehouse, "ada", 250_000, against="fee", month=NOVEMBER, reason="flattrs lost on 3 November"
    )
    following(warehouse, DECEMBER)
    second = close(warehouse, DECEMBER)
    assert payouts(warehouse, DECEMBER)["ada"] == (2_050_000, 0, 0, "paid")
    assert payouts(warehouse, DECEMBER)["bob"] == (0, 5_000 - 100_000, 0, "debt")
    assert (second.fee_micro, second.charity_micro) == (200_000 - 250_000, 100_000)
    cites = warehouse.rows(f"SELECT cites FROM ledger WHERE month = {DECEMBER} AND owner = '{again.id}'")
    assert cites == [("payouts 2026-11 ada",)]
    following(warehouse, JANUARY)
    assert close(warehouse, JANUARY).adjusted_micro == 0
    everything_verifies(warehouse)


def test_correction_of_an_open_month_or_without_reason_is_refused(warehouse: Warehouse) -> None:
    november(warehouse)
    with pytest.raises(PayoutRefused, match="no closed payout line"):
        adjustments.correct(warehouse, "ada", 1, against="fee", month=NOVEMBER, reason="x")
    with pytest.raises(PayoutRefused, match="a reason"):
        adjustments.correct(warehouse, "ada", 1, against="fee", month=NOVEMBER, reason="")


def test_returned_payment_is_credited_again_once_and_paid_with_the_next_close(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    november(warehouse)
    close(warehouse, NOVEMBER)
    ((payment, paid),) = warehouse.rows("SELECT payment_id, paid_micro FROM payouts WHERE creator_id = 'cat'")
    assert paid == 1_120_000
    path = tmp_path / "returns.csv"
    path.write_text(f"payment_id,amount,reason\n{payment},1.12,account closed\n")
    assert import_answers(warehouse, path).credited == {"EUR": 1_120_000}
    assert import_answers(warehouse, path).credited == {"EUR": 0}
    following(warehouse, DECEMBER)
    close(warehouse, DECEMBER)
    assert payouts(warehouse, DECEMBER)["cat"] == (0, 0, 1_125_000, "held"), "a dead account is not paid again"
    renewed = "creator_id,name,iban,bic\ncat,Cat Stevens,FR1420041010050500013M02606,\n"
    register(warehouse, tmp_path, renewed)
    following(warehouse, JANUARY)
    close(warehouse, JANUARY)
    assert payouts(warehouse, JANUARY)["cat"] == (1_120_000, 5_000, 0, "paid")
    ids = warehouse.rows("SELECT DISTINCT payment_id FROM payouts WHERE creator_id = 'cat' AND payment_id != ''")
    assert len(ids) == 2
    everything_verifies(warehouse)


def test_return_that_fits_no_payment_is_refused_with_all_others(warehouse: Warehouse, tmp_path: Path) -> None:
    november(warehouse)
    close(warehouse, NOVEMBER)
    ((payment,),) = warehouse.rows("SELECT payment_id FROM payouts WHERE creator_id = 'cat'")
    path = tmp_path / "returns.csv"
    path.write_text(f"payment_id,amount,reason\n{payment},1.12,x\nFL-1,1.00,x\n{payment},1.13,x\n")
    with pytest.raises(PayoutRefused, match=r"line 3: payment 'FL-1' is unknown\n  line 4: .* was 1\.12"):
        import_answers(warehouse, path)
    assert warehouse.rows("SELECT count() FROM adjustments") == [(0,)]


def test_every_creator_due_is_paid_or_has_a_reason(warehouse: Warehouse) -> None:
    november(warehouse)
    close(warehouse, NOVEMBER, closing(close_minimum_minor=120))
    assert {row[3] for row in payouts(warehouse).values()} == {"paid", "below_minimum"}
    for line in all_payouts(warehouse, NOVEMBER):
        assert (line.paid_micro > 0) == (line.reason == "paid") == (line.payment_id != "")
        assert len(line.payment_id) <= 35


ALL_REGISTERED = REGISTER + "cat,Cat Stevens,FR1420041010050500013M02606,\n"


def closed_november(warehouse: Warehouse, tmp_path: Path) -> Proof:
    november(warehouse)
    register(warehouse, tmp_path, ALL_REGISTERED)
    return close(warehouse, NOVEMBER)


def test_payments_carry_the_payment_id_and_sum_to_what_is_paid_and_repeat_byte_for_byte(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    proof = closed_november(warehouse, tmp_path)
    xml = bank_file(order_of(warehouse, proof, TERMS))
    assert xml == bank_file(order_of(warehouse, proof, TERMS))
    text = xml.decode()
    assert "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09" in text
    ids = {line.payment_id for line in all_payouts(warehouse, NOVEMBER) if line.paid_micro}
    assert set(re.findall("<EndToEndId>([^<]*)</EndToEndId>", text)) == ids
    cents = [int(amount.replace(".", "")) for amount in re.findall(r'<InstdAmt Ccy="EUR">([^<]*)<', text)]
    assert sum(cents) * 10_000 == proof.paid_micro


@pytest.mark.parametrize("scheme", ["pain.001.001.03", "pain.001.001.09", "pain.001.001.11"])
def test_every_scheme_passes_its_own_schema(scheme: Scheme, warehouse: Warehouse, tmp_path: Path) -> None:
    order = order_of(warehouse, closed_november(warehouse, tmp_path), Terms(DEBTOR, date(2026, 12, 3), scheme))
    assert scheme.encode() in bank_file(order)


def test_order_reads_back_from_its_text(warehouse: Warehouse, tmp_path: Path) -> None:
    order = order_of(warehouse, closed_november(warehouse, tmp_path), TERMS)
    assert PaymentOrder.read(order.text()) == order
    assert order.text() == PaymentOrder.read(order.text()).text()


def test_payments_that_are_not_what_was_sealed_are_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    proof = closed_november(warehouse, tmp_path)
    change = "UPDATE paid_micro = paid_micro + 10000 WHERE creator_id = 'ada'"
    warehouse.command(f"ALTER TABLE payouts {change} SETTINGS mutations_sync = 1")
    with pytest.raises(PayoutRefused, match="not what was sealed"):
        order_of(warehouse, proof, TERMS)


def test_payee_without_an_account_is_named(warehouse: Warehouse, tmp_path: Path) -> None:
    november(warehouse)
    register(warehouse, tmp_path)
    with pytest.raises(PayoutRefused, match="No account is known of cat"):
        order_of(warehouse, close(warehouse, NOVEMBER), TERMS)


def test_creator_held_after_the_close_is_paid_only_when_released_or_waits_in_the_next_close(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    proof = closed_november(warehouse, tmp_path)
    creators.hold(warehouse, "bob", "account under review")
    with pytest.raises(PayoutRefused, match="On hold since the close: bob"):
        order_of(warehouse, proof, TERMS)
    adjustments.withhold(warehouse, NOVEMBER, "bob", "account under review")
    assert [payment.creator_id for payment in order_of(warehouse, proof, TERMS).payments] == ["ada", "cat"]
    with pytest.raises(PayoutRefused, match="withheld or returned before"):
        adjustments.withhold(warehouse, NOVEMBER, "bob", "once more")
    following(warehouse, DECEMBER)
    close(warehouse, DECEMBER)
    assert payouts(warehouse, DECEMBER)["bob"] == (0, 0, 3_975_000, "held")
    creators.release(warehouse, "bob")
    following(warehouse, JANUARY)
    close(warehouse, JANUARY)
    assert payouts(warehouse, JANUARY)["bob"] == (3_970_000, 5_000, 0, "paid")
    everything_verifies(warehouse)


def test_draft_is_a_csv_that_no_spreadsheet_runs(warehouse: Warehouse, tmp_path: Path) -> None:
    order = order_of(warehouse, closed_november(warehouse, tmp_path), TERMS)
    lines = list(csv.DictReader(io.StringIO(export.draft_text(order))))
    assert [(line["creator_id"], line["iban"]) for line in lines] == [
        ("ada", "GB29NWBK60161331926819"), ("bob", "DE02120300000000202051"), ("cat", "FR1420041010050500013M02606"),
    ]  # fmt: skip
    assert [neutral(text) for text in ("=1+1", "-2+3", "+x", "@SUM(1)", "ada", 5)] == [
        "'=1+1", "'-2+3", "'+x", "'@SUM(1)", "ada", 5,
    ]  # fmt: skip
    # A spreadsheet whose comma is for decimals takes the semicolon for the end of a cell.
    assert [neutral(text) for text in ("a;=1+1;-2", "a; =1", "https://a.example/;b=1", "\uff1d1+1", " =1", ";")] == [
        "a;'=1+1;'-2", "a;' =1", "https://a.example/;b=1", "'\uff1d1+1", "' =1", ";",
    ]  # fmt: skip


def test_name_goes_to_the_bank_in_its_characters() -> None:
    assert sepa_name('Jürgen Größe & Söhne <GmbH>_"x" €') == "Jurgen Grosse Sohne GmbH x EUR"
    for nobody in ("   ", "😀🚀", "&&", "x" * 71):
        with pytest.raises(ValueError, match="name"):
            sepa_name(nobody)


CASES = {
    "iban": ["DE00370400440532013050", "DE06ABCDEFGHIJKLMNOPQR", "DE783704004405320130001234", "ZZ591234567890123456",
             "SA318000000000608010167519", "DE5137040044053201300", "TR360006200000000006672315",
             "US6712345678901234567"],
    "name": ['"   "', '"Ada\x01Lovelace"', "😀🚀", '"Ada\nLovelace"', '"Ada\x00Lovelace"'],
}  # fmt: skip


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in CASES.items() for value in values])
def test_row_that_no_bank_takes_is_refused_and_named(
    column: str, value: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    row = {"name": "Ada Lovelace", "iban": "DE89370400440532013000", column: value}
    text = f"creator_id,name,iban,bic\nbob,Bob,AT611904300234573201,\nada,{row['name']},{row['iban']},\n"
    with pytest.raises(PayoutRefused, match="line 3: "):
        register(warehouse, tmp_path, text)
    assert creators.read_register(warehouse) == {}


def test_quote_that_is_not_closed_swallows_no_row(warehouse: Warehouse, tmp_path: Path) -> None:
    text = 'creator_id,name,iban,bic\nada,Ada Lovelace,DE89370400440532013000,"\nbob,Bob,AT611904300234573201,\n'
    with pytest.raises(PayoutRefused, match=r"line 2: not valid CSV: .* takes in the rows below it"):
        register(warehouse, tmp_path, text)


def test_blank_around_an_id_is_cut(warehouse: Warehouse, tmp_path: Path) -> None:
    register(warehouse, tmp_path, 'creator_id,name,iban,bic\n"ada ",Ada Lovelace,DE89370400440532013000,\n')
    assert list(creators.read_register(warehouse)) == ["ada"]


def test_hold_and_release_of_a_name_that_nobody_knows_are_refused(warehouse: Warehouse) -> None:
    november(warehouse)
    with pytest.raises(PayoutRefused, match="There is no creator nobody"):
        creators.hold(warehouse, "nobody", "x")
    with pytest.raises(PayoutRefused, match="There is no creator never"):
        creators.release(warehouse, "never")


def test_csv_and_parquet_hold_the_same_lines(warehouse: Warehouse, tmp_path: Path) -> None:
    november(warehouse)
    close(warehouse, NOVEMBER)
    rows = list(csv.DictReader(io.StringIO("".join(export.csv_text(all_payouts(warehouse, NOVEMBER))))))
    export.write_parquet(all_payouts(warehouse, NOVEMBER), tmp_path / "payouts.parquet")
    table = pq.read_table(tmp_path / "payouts.parquet").to_pylist()
    assert [{name: str(value) for name, value in row.items()} for row in table] == rows
    assert len(rows) == 3


def test_bean_check_accepts_the_books_and_refuses_a_changed_entry(warehouse: Warehouse, tmp_path: Path) -> None:
    rules = closing(close_noclick="carry", close_minimum_minor=200)
    november(warehouse)
    pledge(warehouse, NOVEMBER, {"oda": 2 * EUR})
    close(warehouse, NOVEMBER, rules)
    creators.hold(warehouse, "bob", "review")
    adjustments.correct(warehouse, "ada", 250_000, against="fee", month=NOVEMBER, reason="lost")
    following(warehouse, DECEMBER)
    close(warehouse, DECEMBER, rules)
    text = "".join(beancount_text(warehouse, stored_until(warehouse, DECEMBER)))
    assert bean_check(text, tmp_path) == 0
    amount = next(line.split()[1] for line in text.splitlines() if "Payable:" in line and "open" not in line)
    assert bean_check(text.replace(f" {amount} EUR", f" {amount[:-1]}1 EUR", 1), tmp_path) != 0
    one_cent_more = text.replace(f"  {amount} EUR", f"  {amount[:-1]}1 EUR").replace(amount[1:], f"{amount[1:-1]}1")
    assert bean_check(one_cent_more, tmp_path) != 0, "a changed entry that balances in itself contradicts the proof"


def bean_check(text: str, folder: Path) -> int:
    path = folder / "books.beancount"
    path.write_text(text)
    check = Path(sys.executable).with_name("bean-check")
    return subprocess.run([check, path], capture_output=True, check=False).returncode


def test_provisional_run_is_kept_and_its_difference_to_the_final_explained(warehouse: Warehouse) -> None:
    november(warehouse)
    rules = closing()
    rehearse_month(warehouse, NOVEMBER, clock=clock_after(NOVEMBER, rules), log_ends=drained, settings=rules, keep=True)
    pledge(warehouse, NOVEMBER, {"mia": 4 * EUR})
    final = close(warehouse, NOVEMBER)
    compared = provisional_run.compare_run(warehouse, final)
    assert compared.totals["pledged_micro"] == (7 * EUR, 9 * EUR)
    assert compared.rules == {}
    assert compared.lines == [
        provisional_run.Difference("ada", 1_200_000, 2_400_000, 1_200_000, 2_400_000),
        provisional_run.Difference("bob", 3_975_000, 4_575_000, 3_970_000, 4_570_000),
    ]
    with pytest.raises(PayoutRefused, match="has no provisional run"):
        provisional_run.compare_run(warehouse, final, 2)


def test_provisional_run_is_kept_while_the_month_still_runs(warehouse: Warehouse) -> None:
    november(warehouse)
    rules = closing()
    middle = month_start_ms(NOVEMBER) + 15 * 86_400_000
    early = rehearse_month(
        warehouse, NOVEMBER, clock=lambda: middle, log_ends=lambda: {0: 1 << 40}, settings=rules, keep=True
    )
    assert early.balanced
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 2\nmia bob 1\nnil bob 3\nnil cat 1\noda ada 4"))
    pledge(warehouse, NOVEMBER, {"oda": 2 * EUR})
    final = close(warehouse, NOVEMBER)
    compared = provisional_run.compare_run(warehouse, final)
    assert [line.creator_id for line in compared.lines] == ["ada"]
    assert compared.totals["flattrs"] == (7, 11)


def jumped(warehouse: Warehouse) -> CloseSettings:
    """November is closed; in December mia and ada jumped, and so did sam, whose flattrs are in quarantine."""
    rules = closing(close_outlier_factor=5, close_outlier_flattrs_min=10, close_outlier_earned_min_minor=100)
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 2\nnil bob 30\nsam cat 1"))
    pledge(warehouse, NOVEMBER, {"mia": 2 * EUR, "nil": 2 * EUR})
    close(warehouse, NOVEMBER, rules)
    state_month(warehouse, DECEMBER, flattrs_of("mia ada 40\nnil bob 31\nsam cat 50"))
    pledge(warehouse, DECEMBER, {"mia": 20 * EUR, "nil": 2 * EUR})
    desk.flag(
        warehouse,
        DECEMBER,
        Subject.of(member_id="sam"),
        reason="a script",
        by="eve",
        clock=clock_after(DECEMBER, rules),
    )
    return rules


def shown(found: list[outliers.Outlier]) -> list[tuple[str, str, str, int, int, str]]:
    return [(one.kind, one.name, one.measure, one.value, one.before, one.who) for one in found]


def test_creator_member_and_site_that_jumped_stand_out_without_what_is_in_quarantine(warehouse: Warehouse) -> None:
    rules = jumped(warehouse)
    assert shown(outliers.find_outliers(warehouse, DECEMBER, rules)) == [
        ("creator", "ada", "flattrs", 40, 2, ""),
        ("member", "mia", "flattrs", 40, 2, ""),
    ]
    assert outliers.find_outliers(warehouse, NOVEMBER, rules) == []


def test_month_with_outliers_closes_once_somebody_has_looked_at_each(warehouse: Warehouse) -> None:
    rules = jumped(warehouse)
    with pytest.raises(PayoutRefused, match=r"creator ada: 18\.000000 earned, 1\.800000 the month before") as refused:
        close(warehouse, DECEMBER, rules)
    assert "flattr month acknowledge 2026-12 --by NAME" in str(refused.value)
    assert "sam" not in str(refused.value)
    with pytest.raises(PayoutRefused, match="give your name"):
        outliers.acknowledge(warehouse, DECEMBER, " ", rules)
    assert len(outliers.acknowledge(warehouse, DECEMBER, "eve", rules)) == 3
    assert outliers.acknowledge(warehouse, DECEMBER, "adam", rules) == []
    # What grows beyond what was looked at waits for somebody again.
    state_month(warehouse, DECEMBER, flattrs_of("mia ada 45\nnil bob 31\nsam cat 50"))
    with pytest.raises(PayoutRefused, match="creator ada: 45 flattrs"):
        close(warehouse, DECEMBER, rules)
    outliers.acknowledge(warehouse, DECEMBER, "adam", rules)
    assert close(warehouse, DECEMBER, rules).balanced
    assert {one.who for one in outliers.noted_outliers(warehouse, DECEMBER)} == {"eve", "adam"}
