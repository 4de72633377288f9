"""What comes back is credited once and holds whom it must, whatever file says it, in whatever order and how often."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Migrated
from tests.payout.bank_messages import BOOKINGS, STATUS_REPORTS, Entry, Status, Transaction, bookings, status_report
from tests.payout.build import flattrs_of, pledge, state_month
from tests.payout.test_approvals import EVE, FAY, signed
from tests.payout.test_close import close, payouts
from tests.payout.test_commands import Terminal
from tests.payout.test_crash import retried
from tests.payout.test_finance import (
    ALL_REGISTERED,
    DECEMBER,
    JANUARY,
    NOVEMBER,
    TERMS,
    everything_verifies,
    following,
    register,
)
from warehouse.payout.books import returns
from warehouse.payout.books.approval import enrol, public_half
from warehouse.payout.books.pain001 import file_name
from warehouse.payout.books.payment_order import order_of
from warehouse.payout.books.payment_states import payment_standings
from warehouse.payout.books.returns import Imported, import_answers
from warehouse.payout.close.proof import Proof, stored
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs import adjustments, creators
from warehouse.payout.inputs.reason_codes import Action, reason_of, reasons
from warehouse.storage.client import Warehouse

NEW = "camt.053.001.08"


class Bank:
    """Writes answers to files and has them imported."""

    def __init__(self, warehouse: Warehouse, folder: Path) -> None:
        self.warehouse, self.folder = warehouse, folder
        rows = warehouse.rows("SELECT creator_id, payment_id FROM payouts WHERE payment_id != ''")
        self.payment: dict[str, str] = dict(rows)

    def says(self, content: bytes | str) -> Imported:
        path = self.folder / "answer"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return import_answers(self.warehouse, path)

    def refuses(self, content: bytes | str) -> str:
        before = self.books
        with pytest.raises(PayoutRefused) as refused:
            self.says(content)
        assert self.books == before
        return str(refused.value)

    def returns(self, creator: str, amount: str, code: str = "AM04", reference: str = "") -> Imported:
        return self.says(bookings(NEW, [Entry(amount, [Transaction(self.payment[creator], amount, code, reference)])]))

    @property
    def credited(self) -> dict[str, int]:
        """Micro-units credited again, by creator."""
        sql = "SELECT credit_owner, sum(amount_micro) FROM adjustments WHERE kind = 'return' GROUP BY credit_owner"
        return dict(self.warehouse.rows(sql))

    @property
    def held(self) -> dict[str, str]:
        """Who is on hold, and why."""
        found = creators.read_register(self.warehouse).values()
        return {creator.creator_id: creator.reason for creator in found if creator.held}

    @property
    def states(self) -> dict[str, str]:
        """How the payments of November stand, by creator."""
        return {one.payment.creator_id: str(one.state) for one in payment_standings(self.warehouse, NOVEMBER)}

    @property
    def books(self) -> tuple[object, ...]:
        """Everything that an import may change."""
        answers = self.warehouse.rows("SELECT * EXCEPT (read_at) FROM bank_answers ORDER BY ALL")
        return self.credited, self.held, self.states, answers


@pytest.fixture
def warehouse(novembers: Migrated) -> Iterator[Warehouse]:
    """November is closed; nobody has signed its payments."""
    with novembers("test") as database:
        yield database


@pytest.fixture
def proof(warehouse: Warehouse) -> Proof:
    found = stored(warehouse, NOVEMBER)
    assert found is not None
    return found


@pytest.fixture
def bank(warehouse: Warehouse, proof: Proof, tmp_path: Path) -> Bank:
    assert proof.balanced
    return Bank(warehouse, tmp_path)


@pytest.fixture
def file_id(warehouse: Warehouse, proof: Proof) -> str:
    """The name of November's file, which eve and fay have signed."""
    enrol(warehouse, "eve", public_half(EVE))
    enrol(warehouse, "fay", public_half(FAY))
    signed(warehouse, proof, "eve", "fay")
    return file_name(order_of(warehouse, proof, TERMS))


@pytest.mark.parametrize("version", BOOKINGS)
def test_returned_payment_is_credited_and_its_account_held_until_another_is_imported(
    version: str, bank: Bank, warehouse: Warehouse, tmp_path: Path
) -> None:
    cat = bank.payment["cat"]
    content = bookings(version, [Entry("1.12", [Transaction(cat, "1.12", "AC04", note="seit 2025")], reference="E1")])
    (line,) = bank.says(content).lines
    assert (line.creator_id, line.credited_micro, line.action, line.is_new) == ("cat", 1_120_000, Action.RENEW, True)
    assert bank.held == {"cat": f"returned: AC04, the account is closed (payment {cat})"}
    assert bank.states == {"ada": "not signed", "bob": "not signed", "cat": "returned"}
    (again,) = bank.says(content).lines
    assert (again.credited_micro, again.action, again.is_new) == (0, None, False)
    following(warehouse, DECEMBER)
    close(warehouse, DECEMBER)
    assert payouts(warehouse, DECEMBER)["cat"] == (0, 0, 1_125_000, "held")
    register(warehouse, tmp_path, "creator_id,name,iban,bic\ncat,Cat Stevens,DE02120300000000202051,\n")
    assert bank.held == {}
    following(warehouse, JANUARY)
    close(warehouse, JANUARY)
    assert payouts(warehouse, JANUARY)["cat"] == (1_120_000, 5_000, 0, "paid")
    everything_verifies(warehouse)


@pytest.mark.parametrize("version", STATUS_REPORTS)
def test_rejected_payment_is_credited_whole(version: str, bank: Bank) -> None:
    lines = [Status(bank.payment["ada"], code="AM04", amount="1.20"), Status(bank.payment["bob"], "ACSP")]
    imported = bank.says(status_report(version, "FL-202611-X", lines, group="PART"))
    assert [other.why for other in imported.others] == ["accepted"]
    assert bank.credited == {"ada": 1_200_000}
    assert bank.held == {}, "too little money is not the creator's fault"
    assert bank.states == {"ada": "rejected", "bob": "not signed", "cat": "not signed"}


def test_one_booking_in_two_files_counts_once(bank: Bank) -> None:
    cat = bank.payment["cat"]
    for version in BOOKINGS:
        names = ("R1", "") if version.endswith("02") else ("R1", "T1")
        bank.says(bookings(version, [Entry("0.50", [Transaction(cat, "0.50", "AM04", *names)])]))
    bank.says(bookings(NEW, [Entry("0.50", [Transaction(cat, "0.50", "AM04", transaction_id="T1")])]))
    bank.says(bookings(NEW, [Entry("0.50", [Transaction(cat, "0.50", "AM04")], reference="R1")]))
    bank.says(f"payment_id,amount,reason\n{cat},0.50,AM04\n")
    bank.says(f"payment_id,amount,reason,reference\n{cat},0.50,AM04,R1\n")
    assert bank.credited == {"cat": 500_000}
    assert bank.states["cat"] == "returned in part"


def test_parts_are_added_up_to_what_was_paid_and_the_payment_is_not_sent_again(
    bank: Bank, proof: Proof, warehouse: Warehouse
) -> None:
    bank.returns("cat", "0.50", reference="R1")
    assert bank.credited == {"cat": 500_000}
    assert [one.creator_id for one in order_of(warehouse, proof, TERMS).payments] == ["ada", "bob"]
    with pytest.raises(PayoutRefused, match="withheld or returned before"):
        adjustments.withhold(warehouse, NOVEMBER, "cat", "x")
    bank.returns("cat", "0.50", reference="R2")
    assert bank.credited == {"cat": 1_000_000}
    following(warehouse, DECEMBER)
    close(warehouse, DECEMBER)
    bank.returns("cat", "0.50", reference="R3")
    assert bank.credited == {"cat": 1_120_000}, "never more than was paid"
    assert bank.states["cat"] == "returned"
    following(warehouse, JANUARY)
    close(warehouse, JANUARY)
    assert payouts(warehouse, DECEMBER)["cat"] == (1_000_000, 5_000, 0, "paid")
    assert payouts(warehouse, JANUARY)["cat"] == (120_000, 5_000, 0, "paid")
    everything_verifies(warehouse)


def test_withheld_payment_that_comes_back_all_the_same_is_not_credited_twice(bank: Bank, warehouse: Warehouse) -> None:
    adjustments.withhold(warehouse, NOVEMBER, "cat", "review")
    assert bank.states["cat"] == "withheld"
    (line,) = bank.returns("cat", "1.12", "AC04", reference="R1").lines
    assert (line.credited_micro, line.action) == (0, Action.RENEW)
    assert bank.credited == {"cat": 1_120_000}


@pytest.mark.parametrize("version", STATUS_REPORTS)
@pytest.mark.parametrize("level", ["group", "block"])
def test_whole_file_that_is_rejected_credits_every_payment_in_it_and_holds_nobody(
    level: str, version: str, bank: Bank, file_id: str
) -> None:
    assert bank.states == {"ada": "signed", "bob": "signed", "cat": "signed"}
    listed = [Status(bank.payment["ada"], "")] if level == "block" else []
    content = status_report(version, file_id, listed, **{level: "RJCT"}, code="NARR")
    assert bank.says(content).credited == {"EUR": 6_290_000}
    assert bank.credited == {"ada": 1_200_000, "bob": 3_970_000, "cat": 1_120_000}
    assert bank.held == {}, "the reason is the file's"
    assert set(bank.states.values()) == {"rejected"}
    assert bank.says(content).credited == {"EUR": 0}
    assert bank.says(status_report(version, file_id, group="RJCT", code="FF01")).credited == {"EUR": 0}


def test_file_that_was_sent_twice_is_rejected_once_and_paid_once(bank: Bank, file_id: str) -> None:
    for code in ("DU01", "AM05", "DUPL"):
        said = bank.refuses(status_report(STATUS_REPORTS[1], file_id, group="RJCT", code=code))
        assert f"file {file_id} was sent before ({code}, " in said


def test_rejected_file_that_is_not_ours_is_told_and_one_that_should_be_is_refused(bank: Bank, file_id: str) -> None:
    (other,) = bank.says(status_report(STATUS_REPORTS[1], "SALARIES-11", group="RJCT", code="FF01")).others
    assert (other.fact.file_id, other.why) == ("SALARIES-11", "not ours")
    for unknown in (file_id[:-1] + "g", "FL-209911-" + file_id[10:], "FL-"):
        said = bank.refuses(status_report(STATUS_REPORTS[1], unknown, group="RJCT", code="FF01"))
        assert f"file {unknown!r} is rejected, but nobody signed such a file" in said


def test_statement_has_other_bookings_and_a_stranger_cannot_stop_its_import(bank: Bank) -> None:
    ada = bank.payment["ada"]
    entries = [
        Entry("2.00", [Transaction("NOTPROVIDED", "2.00")]),
        Entry("2.00", [Transaction("FL-202611-MADE-UP-BY-A-STRANGER", "2.00")]),
        Entry("1.20", [Transaction(ada, "1.20")]),
        Entry("1.20", [Transaction(ada, "1.20", "AC04")], status="PDNG"),
        Entry("1.20", [Transaction(ada, "1.20", "AC04")], sense="DBIT"),
        Entry("2.00", [Transaction("FD-202611-1", "2.00", "AM04")], sense="DBIT"),
        Entry("9000000.00", sense="DBIT", batch="FL-202611-X"),
        Entry("1.00", batch="FL-202611-X", reversal=True),
        Entry("3.00", [Transaction("E2E-OF-OTHERS", "3.00", "AC04")]),
        Entry("7", [Transaction("IN-YEN", "7", currency="XAU")], currency="XAU"),
    ]
    imported = bank.says(bookings(NEW, entries))
    assert imported.lines == ()
    assert [other.why for other in imported.others] == [
        "not ours", "an ordinary booking", "an ordinary booking", "announced, not booked yet",
        "money that left the account", "not ours", "an ordinary booking",
        "came back in one sum: ask the bank for the single payments (camt.054)", "not ours", "not ours",
    ]  # fmt: skip
    assert bank.credited == {}


def test_return_that_cannot_be_true_is_refused_by_name_with_all_others(bank: Bank) -> None:
    cat, ada, none = bank.payment["cat"], bank.payment["ada"], "FL-202611-NOBODY"
    good = Entry("1.20", [Transaction(ada, "1.20", "AM04")])
    for bad, sentence in [
        (Entry("1.00", [Transaction(none, "1.00", "AC04")]), f"payment '{none}' is returned, but nothing was paid"),
        (Entry("1.13", [Transaction(cat, "1.13", "AC04")]), "1.12 EUR, but 1.130000 EUR came back"),
        (Entry("1", [Transaction(cat, "1", "AC04", currency="USD")], currency="USD"), "but 1.000000 USD came back"),
        (Entry("1", [Transaction(cat, "0", "AC04")]), "but 0.000000 EUR came back"),
        (Entry("1", [Transaction(cat, "0.005", "AC04")]), "but 0.005000 EUR came back"),
        (Entry("1", [Transaction(cat, code="AC04"), Transaction(ada)]), "but an amount that it does not say came back"),
    ]:
        assert sentence in bank.refuses(bookings(NEW, [good, bad]))
    version = STATUS_REPORTS[1]
    for status, sentence in [
        (Status(none), f"payment '{none}' is rejected, but nothing was paid"),
        (Status(cat, amount="1.13"), "1.12 EUR, but the bank rejected 1.130000 EUR"),
        (Status(cat, amount="1.12", currency="USD"), "but the bank rejected 1.120000 USD"),
        (Status(""), "a payment is rejected that the bank does not name"),
    ]:
        assert sentence in bank.refuses(status_report(version, "FL-202611-X", [Status(ada), status]))
    assert "declares a document type" in bank.refuses("<!DOCTYPE x><Document/>")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("{cat},1.13,x", "line 2: payment {cat} was 1.12, but 1.13 was returned"),
        ("{cat},0,x", "line 2: payment {cat} was 1.12, but 0 was returned"),
        ("{cat},-1,x", "line 2: amount '-1' is not a number"),
        ("{cat},1.12,", "line 2: payment {cat} came back for a reason"),
        ("FL-1,1.12,x", "line 2: payment 'FL-1' is unknown"),
        ('{cat},1.12,"closed\n{ada},1.20,x', "line 2: not valid CSV"),
        ("{cat},1.12", "line 2: 2 cells, but the header has 3"),
    ],
)
def test_bad_row_of_our_own_csv_is_named_and_nothing_imported(rows: str, sentence: str, bank: Bank) -> None:
    text = f"payment_id,amount,reason\n{rows}\n{{ada}},1.20,gone\n"
    assert sentence.format(**bank.payment) in bank.refuses(text.format(**bank.payment))


def test_own_csv_may_say_parts_codes_and_references(bank: Bank) -> None:
    rows = "{cat},0.50,MS03 asks nicely,R1\n{cat},0.50,MS03 asks nicely,R2\n{bob},1,account closed,\n{ada},1.20,AM04,\n"
    bank.says("payment_id,amount,reason,reference\n" + rows.format(**bank.payment))
    bank.says("reference,payment_id,reason,amount\n,{bob},account closed,1\n".format(**bank.payment))
    assert bank.credited == {"ada": 1_200_000, "bob": 1_000_000, "cat": 1_000_000}
    assert bank.held == {
        "bob": f"returned: account closed (payment {bank.payment['bob']})",
        "cat": f"ask: MS03, the bank gives no reason (payment {bank.payment['cat']})",
    }


def test_what_is_to_be_asked_is_released_by_a_person_only(bank: Bank, warehouse: Warehouse, tmp_path: Path) -> None:
    cat = bank.payment["cat"]
    bank.returns("cat", "0.12", "AC01", reference="R1")
    bank.returns("cat", "1.00", "MD07", reference="R2")
    creators.hold(warehouse, "cat", "under review")
    asked = f"ask: MD07, the payee has died (payment {cat})"
    assert bank.held == {"cat": f"under review; {asked}; returned: AC01, the account number is wrong (payment {cat})"}
    register(warehouse, tmp_path, ALL_REGISTERED.replace("FR1420041010050500013M02606", "DE02120300000000202051"))
    assert bank.held == {"cat": f"under review; {asked}"}
    creators.release(warehouse, "cat")
    bank.returns("cat", "1.00", "MD07", reference="R2")
    bank.returns("cat", "1.00", "MD07", reference="R9")
    assert bank.held == {}, "what was released is not held again because the bank repeats it"
    bank.returns("cat", "1.00", "FR01", reference="R2")
    assert bank.held == {"cat": f"ask: FR01, fraud (payment {cat})"}


def test_answer_about_an_account_that_was_replaced_since_holds_nobody(
    bank: Bank, file_id: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    assert file_id
    register(warehouse, tmp_path, ALL_REGISTERED.replace("FR1420041010050500013M02606", "DE02120300000000202051"))
    bank.returns("cat", "1.12", "AC04")
    bank.returns("bob", "3.97", "AC04")
    assert bank.credited == {"bob": 3_970_000, "cat": 1_120_000}
    assert bank.held.keys() == {"bob"}


def test_reason_that_only_one_of_two_files_gives_is_not_asked(bank: Bank) -> None:
    bank.returns("cat", "1.12", "-", reference="R1")
    assert bank.held == {"cat": f"ask: the bank gives no reason (payment {bank.payment['cat']})"}
    bank.returns("cat", "1.12", "AM04", reference="R1")
    bank.returns("bob", "3.97", "AM04", reference="R2")
    bank.returns("bob", "3.97", "-", reference="R2")
    assert bank.held == {}


def test_answers_from_the_command_line(bank: Bank, file_id: str, tmp_path: Path) -> None:
    terminal = Terminal({"FLATTR_WAREHOUSE": bank.warehouse.url, "COLUMNS": "200"})
    ada = bank.payment["ada"]
    path = tmp_path / "answer.xml"
    path.write_bytes(bookings("camt.054.001.08", [Entry("0.50", [Transaction(ada, "0.50", "MS03", "R1")])]))
    assert terminal.says("payouts", "returns", str(path)) == (
        f"  {ada} ada: returned 0.50 EUR, MS03, the bank gives no reason: "
        "0.50 credited; held until somebody has asked and releases it\n"
        "answers: 1 new, 0 known, 0 of no concern\n"
        "credited with the next close: 0.50 EUR; creators put on hold: 1\n"
    )
    assert "known already" in terminal.says("payouts", "returns", str(path))
    assert re.search(rf"{ada} .* returned in part .* 0\.50 .* MS03", terminal.says("payouts", "answers", "2026-11"))
    path.write_bytes(status_report("pain.002.001.10", file_id, group="RJCT", code="FF01"))
    said = terminal.says("payouts", "returns", str(path))
    assert f"{ada} ada: rejected 1.20 EUR, FF01, the file's format is wrong: 0.70 credited\n" in said
    path.write_bytes(b'<!DOCTYPE x [<!ENTITY a "b">]><Document/>')
    assert "declares a document type" in terminal.refuses("payouts", "returns", str(path))


class Stopped(Exception):
    pass


STEPS: list[tuple[object, str]] = [(creators, "write"), (returns, "_store"), (adjustments, "write")]
FILES = (
    lambda bank: bookings(NEW, [Entry("1.12", [Transaction(bank.payment["cat"], "1.12", "AC04", "R1")])]),
    lambda bank: "payment_id,amount,reason\n{ada},0.20,MS03\n{bob},3.97,AM04\n".format(**bank.payment),
)


@pytest.mark.parametrize(("module", "name"), STEPS)
@pytest.mark.parametrize("file", FILES)
def test_import_that_stops_after_a_step_is_completed_by_the_next(
    file: Callable[[Bank], bytes | str], module: object, name: str, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = getattr(module, name)

    def stop(*arguments: object) -> None:
        step(*arguments)
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(module, name, stop)
        with pytest.raises(Stopped):
            bank.says(file(bank))
    bank.says(file(bank))
    if file is FILES[0]:
        assert bank.credited == {"cat": 1_120_000}
        assert bank.held.keys() == {"cat"}
    else:
        assert bank.credited == {"ada": 200_000, "bob": 3_970_000}
        assert bank.held.keys() == {"ada"}
    before = bank.books
    bank.says(file(bank))
    assert bank.books == before


CHILD = """
import os, signal, sys
from pathlib import Path
from warehouse.payout.books.returns import import_answers
from warehouse.payout.close.lock import Held
from warehouse.storage.client import Warehouse

insert = Held.insert
def insert_and_die(self, table, *rest, **more):
    insert(self, table, *rest, **more)
    if table == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
Held.insert = insert_and_die
import_answers(Warehouse(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("table", ["creators", "bank_answers", "adjustments"])
def test_import_that_is_killed_after_a_write_is_completed_by_the_next(table: str, bank: Bank, tmp_path: Path) -> None:
    content = FILES[0](bank)
    path = tmp_path / "killed.xml"
    path.write_bytes(content)
    command = [sys.executable, "-c", CHILD, bank.warehouse.url, str(path), table]
    assert subprocess.run(command, check=False).returncode == -9
    retried(lambda: bank.says(content))
    assert bank.credited == {"cat": 1_120_000}
    assert bank.held.keys() == {"cat"}
    assert bank.states["cat"] == "returned"


RETURN_CODES = """
AC01 AC02 AC03 AC04 AC06 AC07 AC13 AC14 AC15 AC16 AC17 AG01 AG02 AG07 AGNT AM01 AM02 AM03 AM04 AM05 AM06 AM07 AM09
AM10 ARDT BE01 BE04 BE05 BE06 BE07 BE08 BE10 BE11 BE16 BE17 CN01 CNOR CNPC CURR CUST DC04 DNOR DS28 DT01 DT02 DT04
DUPL ED01 ED03 ED05 EMVL ERIN FF03 FF04 FF05 FF06 FF07 FOCR FR01 FRTR G004 MD01 MD02 MD05 MD06 MD07 MS02 MS03 NARR
NOAS NOCM NOOR PINL RC01 RC03 RC04 RC07 RC08 RC11 RF01 RR01 RR02 RR03 RR04 RR05 RR06 RR07 RR08 RR09 RR11 RR12 RUTA
SL01 SL02 SL11 SL12 SL13 SL14 SP01 SP02 SVNR TM01 TRAC UPAY
"""


def test_every_reason_that_iso_lists_leads_to_one_of_three_things() -> None:
    assert set(RETURN_CODES.split()) <= reasons().keys()
    assert len(RETURN_CODES.split()) == 104
    assert len(reasons()) == 313, "104 reasons of returns and 301 of statuses, 92 of them in both lists"
    assert all(reason.meaning and len(code) == 4 for code, reason in reasons().items())
    assert {reason_of(code).action for code in ("AC01", "AC03", "AC04", "AC06", "AG01", "RC04")} == {Action.RENEW}
    assert {reason_of(code).action for code in ("AM04", "ED05", "TM01", "AB05", "FF01")} == {Action.PAY_AGAIN}
    asked = ("MS03", "MS02", "MD07", "RR04", "AM07", "FR01", "NARR", "FOCR", "AM05", "BE05", "", "XX99", "ac04", "own")
    assert {reason_of(code).action for code in asked} == {Action.ASK}


def test_table_of_reasons_is_sorted_and_names_each_once() -> None:
    path = Path(returns.__file__).parents[1] / "inputs" / "reason_codes.csv"
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# Source: ")
    codes = [row["code"] for row in csv.DictReader(lines[1:])]
    assert codes == sorted(set(codes))


def test_large_file_is_booked_in_one_go(migrated: Migrated, tmp_path: Path) -> None:
    """More ids than a statement of the server may be long."""
    count = 8000
    with migrated("large") as warehouse:
        state_month(warehouse, NOVEMBER, flattrs_of("\n".join(f"mia c{number} 1" for number in range(count))))
        pledge(warehouse, NOVEMBER, {"mia": 100_000 * 1_000_000})
        close(warehouse, NOVEMBER)
        bank = Bank(warehouse, tmp_path)
        lines = [
            Transaction(payment, "0.01", "AC04", f"R{number}") for number, payment in enumerate(bank.payment.values())
        ]
        assert len(lines) == count
        assert bank.says(bookings(NEW, [Entry("80.00", lines)])).credited == {"EUR": 80_000_000}
        assert len(bank.held) == count
