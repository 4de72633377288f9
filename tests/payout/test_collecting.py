"""What members owe is collected: one debit for a member and month, whatever is rerun; the bank says what is paid."""

from __future__ import annotations

import csv
import io
import itertools
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydantic import ValidationError

from ingest.runtime.clock import system_clock
from tests.payout.bank_messages import BOOKINGS, Entry, Status, Transaction, bookings, status_report
from tests.payout.build import closing, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.payout.test_commands import Terminal
from tests.payout.test_finance import everything_verifies
from warehouse.erasure.erase import erase
from warehouse.payout.close.settings import CloseSettings, DebitScheme
from warehouse.payout.collecting import collection
from warehouse.payout.collecting.answers import Taken, import_results, take_booking
from warehouse.payout.collecting.collection import Terms, collect, due, end_to_end_id, message_id, read_debits
from warehouse.payout.collecting.mandates import (
    MandatePreview,
    import_mandates,
    read_mandates,
    withdraw_mandates,
)
from warehouse.payout.collecting.pain008 import Creditor
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.pledge_versions import standing_pledges
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.payout.inputs.strict_csv import ImportRefused
from warehouse.payout.inputs.withdrawals import withdraw_members
from warehouse.storage.client import Warehouse

EUR = 1_000_000
NOVEMBER, DECEMBER = 202611, 202612
TODAY, ON = date(2026, 11, 3), date(2026, 11, 18)
CREDITOR = Creditor("Flattr", "DE89370400440532013000", "COBADEFF", "DE98ZZZ09999999999")
RULES = closing()
TERMS = Terms(CREDITOR, ON, TODAY, RULES)
HEADER = "member_id,mandate_id,signed_on,name,iban,bic\n"
ACCOUNTS = ("GB29NWBK60161331926819", "DE02120300000000202051", "AT611904300234573201", "FR1420041010050500013M02606")
MANDATES = HEADER + "".join(
    f"{member},M-{number},2026-01-0{number},{member.title()} Größe,{iban},\n"
    for number, (member, iban) in enumerate(zip(("mia", "leo", "oda", "zoe"), ACCOUNTS, strict=True), 1)
)


def mandated(warehouse: Warehouse, folder: Path, text: str = MANDATES) -> int:
    path = folder / "mandates.csv"
    path.write_text(text, encoding="utf-8")
    return import_mandates(warehouse, path, TODAY)


@pytest.fixture
def owing(warehouse: Warehouse, tmp_path: Path) -> Warehouse:
    """Four members pledge EUR 2 for November, with a mandate, and have not paid; two more have no mandate."""
    members = ("mia", "leo", "oda", "zoe", "eva", "ivo")
    pledge(warehouse, NOVEMBER, dict.fromkeys(members, 2 * EUR), unpaid=members)
    mandated(warehouse, tmp_path)
    return warehouse


def debited(file: bytes) -> dict[str, tuple[str, str, str]]:
    """By EndToEndId: amount, mandate and sequence type of a file."""
    root = ET.fromstring(re.sub(rb' xmlns="[^"]+"', b"", file, count=1))
    return {
        str(one.findtext("PmtId/EndToEndId")): (
            str(one.findtext("InstdAmt")), str(one.findtext("DrctDbtTx/MndtRltdInf/MndtId")),
            str(block.findtext("PmtTpInf/SeqTp")),
        )
        for block in root.iter("PmtInf")
        for one in block.iter("DrctDbtTxInf")
    }  # fmt: skip


def ids(*members: str, month: int = NOVEMBER) -> list[str]:
    return [end_to_end_id(month, member) for member in members]


def standing(warehouse: Warehouse, month: int = NOVEMBER) -> dict[str, tuple[int, bool]]:
    return {one.member_id: (one.owed.amount_micro, one.owed.paid) for one in standing_pledges(warehouse, [month])}


def paid(warehouse: Warehouse, month: int = NOVEMBER) -> set[str]:
    return {member for member, (_, is_paid) in standing(warehouse, month).items() if is_paid}


def answered(
    warehouse: Warehouse, folder: Path, *rows: tuple[str, str], step_done: Callable[[str], None] = lambda _: None
) -> Taken:
    """Take in rows (member, result) for November."""
    path = folder / "results.csv"
    lines = [f"{end_to_end_id(NOVEMBER, member)},2.00,{result},AC04\n" for member, result in rows]
    path.write_text("end_to_end_id,amount,result,reason\n" + "".join(lines))
    return import_results(warehouse, path, step_done)


# Mandates


def test_mandates_are_imported_all_or_none_and_previewed(warehouse: Warehouse, tmp_path: Path) -> None:
    pledge(warehouse, NOVEMBER, {"mia": 2 * EUR})
    shown: list[MandatePreview] = []
    path = tmp_path / "mandates.csv"
    path.write_text(MANDATES, encoding="utf-8")

    def confirm(preview: MandatePreview) -> bool:
        shown.append(preview)
        return len(shown) > 1

    with pytest.raises(PayoutRefused, match=r"Nothing was imported from mandates\.csv"):
        import_mandates(warehouse, path, TODAY, confirm)
    assert read_mandates(warehouse) == {}
    assert import_mandates(warehouse, path, TODAY, confirm) == 4
    assert shown[0] == shown[1]
    assert (shown[0].added, shown[0].never_seen) == (("leo", "mia", "oda", "zoe"), ("leo", "oda", "zoe"))
    assert shown[0].written["mia"] == ("Mia Größe", "Mia Grosse")
    mia = read_mandates(warehouse)["mia"]
    assert (mia.mandate_id, mia.signed_on, mia.name, mia.iban) == (
        "M-1", date(2026, 1, 1), "Mia Grosse", "GB29NWBK60161331926819",
    )  # fmt: skip
    assert import_mandates(warehouse, path, TODAY, confirm) == 0
    assert len(shown) == 2, "a file that changes nothing asks nothing"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("mia,M 1,2026-01-01,Mia,DE89370400440532013000,", "mandate_id 'M 1' is not 1 to 35"),
        (f"mia,{'M' * 36},2026-01-01,Mia,DE89370400440532013000,", "is not 1 to 35"),
        ("mia,,2026-01-01,Mia,DE89370400440532013000,", "mandate_id '' is not 1 to 35"),
        ("mia,=1+1,2026-01-01,Mia,DE89370400440532013000,", "mandate_id"),
        ("mia,M1,01.01.2026,Mia,DE89370400440532013000,", "is not a day"),
        ("mia,M1,2026-02-30,Mia,DE89370400440532013000,", "is not a day"),
        ("mia,M1,2026-11-04,Mia,DE89370400440532013000,", "is the year right"),
        ("mia,M1,0026-11-01,Mia,DE89370400440532013000,", "is the year right"),
        ("mia,M1,2026-01-01,😀,DE89370400440532013000,", "no letter or digit"),
        ("mia,M1,2026-01-01,Mia,DE00370400440532013000,", "is no account of DE"),
        ("mia,M1,2026-01-01,Mia,DE89370400440532013000,XX", "is not a BIC"),
        ("müller,M1,2026-01-01,Mia,DE89370400440532013000,", "visible ASCII"),
        ("mia,M1,2026-01-01,Mia", "4 cells"),
        ("leo,M-9,2026-01-01,Leo,DE89370400440532013000,", "line 2 already has leo"),
        ("mia,M-2,2026-01-01,Mia,DE89370400440532013000,", "line 2 already has mandate M-2"),
    ],
)
def test_mandate_that_no_bank_takes_is_refused_by_line(
    warehouse: Warehouse, tmp_path: Path, row: str, reason: str
) -> None:
    with pytest.raises(ImportRefused, match=f"line 3: .*{re.escape(reason)}"):
        mandated(warehouse, tmp_path, HEADER + f"leo,M-2,2026-01-02,Leo,DE02120300000000202051,\n{row}\n")
    assert read_mandates(warehouse) == {}


def test_mandate_belongs_to_one_member_and_one_account(owing: Warehouse, tmp_path: Path) -> None:
    row = "mia,M-1,2026-01-01,Mia,AT611904300234573201,\n"
    assert mandated(owing, tmp_path, HEADER + row) == 1, "not used yet: a mistake is corrected"
    assert mandated(owing, tmp_path, MANDATES) == 1
    collect(owing, NOVEMBER, TERMS, TODAY)
    with pytest.raises(ImportRefused, match="another account needs a mandate of its own"):
        mandated(owing, tmp_path, HEADER + row)
    with pytest.raises(ImportRefused, match="mandate M-1 is mia's"):
        mandated(owing, tmp_path, HEADER + row.replace("mia,", "eva,"))
    assert mandated(owing, tmp_path, HEADER + row.replace("M-1", "M-7")) == 1
    withdraw_mandates(owing, ["mia"])
    assert "mia" not in read_mandates(owing)
    with pytest.raises(ImportRefused, match="mandate M-7 was withdrawn"):
        mandated(owing, tmp_path, HEADER + row.replace("M-1", "M-7"))
    with pytest.raises(PayoutRefused, match="No mandate is in force of mai, mia"):
        withdraw_mandates(owing, ["mia", "mai", "leo"])
    assert "leo" in read_mandates(owing)


# The file


@pytest.mark.parametrize("scheme", ["pain.008.001.02", "pain.008.001.08", "pain.008.001.10"])
def test_file_debits_who_owes_and_has_a_mandate(owing: Warehouse, scheme: DebitScheme) -> None:
    rules = closing(close_debit_scheme=scheme)
    file = collect(owing, NOVEMBER, replace(TERMS, rules=rules), TODAY)
    assert scheme.encode() in file
    expected = {name: ("2.00", f"M-{number}", "FRST") for number, name in enumerate(ids("mia", "leo", "oda", "zoe"), 1)}
    assert debited(file) == expected
    for text in ("<MsgId>FD-202611-20261118</MsgId>", "<ReqdColltnDt>2026-11-18</ReqdColltnDt>",
                 "<Id>DE98ZZZ09999999999</Id>", "<DtOfSgntr>2026-01-01</DtOfSgntr>", "<Nm>Mia Grosse</Nm>",
                 "<PmtInfId>FD-202611-20261118-FRST</PmtInfId>", "<CtrlSum>8.00</CtrlSum>"):  # fmt: skip
        assert text.encode() in file, text
    assert all(len(name) <= 35 for name in debited(file))


def test_who_is_not_collected_from_is_named(owing: Warehouse, tmp_path: Path) -> None:
    pledge(owing, NOVEMBER, {"mia": 2 * EUR - 10_000}, unpaid=["mia"])
    found = due(owing, NOVEMBER, RULES, ON)
    assert ([one.mandate.member_id for one in found.debits], found.without_mandate, found.too_small) == (
        ["leo", "oda", "zoe"], ("eva", "ivo"), ("mia",),
    )  # fmt: skip
    old = "ivo,OLD,2020-01-01,Ivo,DE89370400440532013000,\n"
    mandated(owing, tmp_path, HEADER + old)
    assert due(owing, NOVEMBER, RULES, ON).lapsed == ("ivo",)
    assert due(owing, NOVEMBER, closing(close_debit_minimum_minor=1), ON).too_small == ()


def test_any_amount_from_two_euros_is_collected(owing: Warehouse) -> None:
    pledge(owing, NOVEMBER, {"mia": 7 * EUR + 130_000, "leo": 200 * EUR}, unpaid=["mia", "leo"])
    file = debited(collect(owing, NOVEMBER, TERMS, TODAY))
    assert [file[name][0] for name in ids("mia", "leo")] == ["7.13", "200.00"]


def test_same_command_gives_the_same_file_whatever_has_changed(owing: Warehouse, tmp_path: Path) -> None:
    file = collect(owing, NOVEMBER, TERMS, TODAY)
    withdraw_mandates(owing, ["leo"])
    pledge(owing, NOVEMBER, {"new": 2 * EUR}, unpaid=["new"])
    mandated(owing, tmp_path, HEADER + "new,M-9,2026-01-01,New,DE89370400440532013000,\n")
    other = replace(
        TERMS, creditor=replace(CREDITOR, name="Another"), rules=closing(close_debit_scheme="pain.008.001.02")
    )
    for more in (False, True):
        assert collect(owing, NOVEMBER, other, ON + timedelta(days=30), more=more) == file
    assert owing.rows("SELECT uniqExact(end_to_end_id), count() FROM debits") == [(4, 4)]


def test_second_file_of_a_month_is_asked_for_and_has_new_members_only(owing: Warehouse, tmp_path: Path) -> None:
    first = collect(owing, NOVEMBER, TERMS, TODAY)
    later = replace(TERMS, collect_on=date(2026, 11, 19))
    with pytest.raises(PayoutRefused, match="2026-11 is collected on 2026-11-18 already"):
        collect(owing, NOVEMBER, later, TODAY)
    with pytest.raises(PayoutRefused, match="Nobody is left to collect from for 2026-11"):
        collect(owing, NOVEMBER, later, TODAY, more=True)
    mandated(owing, tmp_path, HEADER + "eva,M-9,2026-01-01,Eva,DE89370400440532013000,\n")
    second = collect(owing, NOVEMBER, later, TODAY, more=True)
    assert list(debited(second)) == ids("eva")
    assert collect(owing, NOVEMBER, TERMS, TODAY) == first
    assert collect(owing, NOVEMBER, later, TODAY) == second


def test_file_has_its_bounds_and_the_rest_waits(owing: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "DEBITS_MAX", 3)
    assert due(owing, NOVEMBER, RULES, ON).waiting == 1
    collect(owing, NOVEMBER, TERMS, TODAY)
    collect(owing, NOVEMBER, replace(TERMS, collect_on=date(2026, 11, 19)), TODAY, more=True)
    assert len(read_debits(owing, [NOVEMBER])) == 4


def test_nothing_is_collected_that_is_not_confirmed(owing: Warehouse) -> None:
    with pytest.raises(PayoutRefused, match="Nothing was collected"):
        collect(owing, NOVEMBER, TERMS, TODAY, confirm=lambda _: False)
    assert owing.rows("SELECT (SELECT count() FROM debits), (SELECT count() FROM debit_files)") == [(0, 0)]


@pytest.mark.parametrize(
    ("on", "notified", "reason"),
    [
        (date(2026, 11, 16), TODAY, "from on 2026-11-17 at the earliest"),
        (date(2026, 11, 17), date(2026, 11, 4), "not sent yet"),
        (date(2026, 11, 21), TODAY, "Banks do not settle on 2026-11-21"),
        (date(2026, 12, 25), TODAY, "Banks do not settle on 2026-12-25"),
        (date(2026, 11, 3), date(2026, 10, 1), "from on 2026-11-04 at the earliest"),
        (date(2027, 11, 18), TODAY, "is the date right"),
    ],
)
def test_day_is_one_on_which_banks_settle_and_members_know_of_it(
    owing: Warehouse, on: date, notified: date, reason: str
) -> None:
    with pytest.raises(PayoutRefused, match=reason):
        collect(owing, NOVEMBER, replace(TERMS, collect_on=on, notified_on=notified), TODAY)
    early = replace(TERMS, collect_on=date(2026, 11, 4), notified_on=date(2026, 10, 20))
    assert collect(owing, NOVEMBER, early, TODAY), "they were told long before"


def test_closed_month_is_not_collected_any_more(owing: Warehouse) -> None:
    close(owing, NOVEMBER)
    with pytest.raises(PayoutRefused, match="2026-11 is closed"):
        collect(owing, NOVEMBER, TERMS, TODAY)


def test_first_debit_of_a_mandate_that_was_carried_out_is_frst_and_the_next_rcur(
    owing: Warehouse, tmp_path: Path
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    answered(owing, tmp_path, ("mia", "collected"), ("leo", "failed"), ("oda", "returned"))
    pledge(owing, DECEMBER, dict.fromkeys(("mia", "leo", "oda", "zoe"), 2 * EUR), unpaid=("mia", "leo", "oda", "zoe"))
    terms = replace(TERMS, collect_on=date(2026, 12, 18))
    file = collect(owing, DECEMBER, terms, date(2026, 12, 1))
    assert [debited(file)[name][2] for name in ids("mia", "leo", "oda", "zoe", month=DECEMBER)] == [
        "RCUR", "FRST", "RCUR", "RCUR",
    ]  # fmt: skip
    assert file.count(b"<PmtInfId>FD-202612-20261218-RCUR</PmtInfId>") == 1
    assert file.count(b"<PmtInfId>FD-202612-20261218-FRST</PmtInfId>") == 1


def test_draft_is_a_csv_that_notes_nothing_and_runs_no_formula(owing: Warehouse, tmp_path: Path) -> None:
    pledge(owing, NOVEMBER, {"=1+1": 2 * EUR}, unpaid=["=1+1"])
    mandated(owing, tmp_path, HEADER + "=1+1,M-9,2026-01-01,Eve,DE89370400440532013000,\n")
    text = collection.draft_text(due(owing, NOVEMBER, RULES, ON), ON, CREDITOR.creditor_id)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["member_id"] for row in rows] == ["'=1+1", "leo", "mia", "oda", "zoe"]
    assert (rows[2]["amount"], rows[2]["mandate_id"], rows[2]["collect_on"]) == ("2.00", "M-1", "2026-11-18")
    assert read_debits(owing, [NOVEMBER]) == []


def test_creditor_and_its_account_are_checked_at_start() -> None:
    assert CloseSettings(close_creditor_id="DE98ZZZ09999999999").close_creditor_id == "DE98ZZZ09999999999"
    for wrong in ({"close_creditor_id": "DE99ZZZ09999999999"}, {"close_creditor_id": "DE98 ZZZ0 9999999999"},
                  {"close_creditor_iban": "DE00370400440532013000"}, {"close_creditor_bic": "x"}):  # fmt: skip
        with pytest.raises(ValidationError):
            CloseSettings.model_validate(wrong)


CHILD = """
import os, signal, sys
from datetime import date
from tests.payout.test_collecting import NOVEMBER, TERMS, TODAY
from warehouse.payout.collecting.collection import collect
from warehouse.storage.client import Warehouse

def step_done(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

collect(Warehouse(sys.argv[1]), NOVEMBER, TERMS, TODAY, step_done=step_done)
"""


@pytest.mark.parametrize("step", ["debits", "file"])
def test_crash_between_noting_and_handing_out_charges_nobody_twice(owing: Warehouse, step: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, owing.url, step], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert len(read_debits(owing, [NOVEMBER])) == (4 if step == "file" else 0)
    file = _once_unlocked(lambda: collect(owing, NOVEMBER, TERMS, TODAY))
    assert len(debited(file)) == len(read_debits(owing, [NOVEMBER])) == 4
    assert collect(owing, NOVEMBER, TERMS, TODAY) == file
    assert owing.rows("SELECT count() FROM debit_files") == [(1,)]


def _once_unlocked(work: Callable[[], bytes]) -> bytes:
    """A killed holder's lock ends with its connection, within a second."""
    from warehouse.payout.errors import MonthLocked

    for _ in range(100):
        try:
            return work()
        except MonthLocked:
            import time

            time.sleep(0.1)
    return work()


# What the bank answers


def test_collected_is_paid_failed_and_returned_is_not(owing: Warehouse, tmp_path: Path) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    assert paid(owing) == set()
    taken = answered(
        owing, tmp_path, ("mia", "collected"), ("leo", "failed"), ("oda", "collected"), ("oda", "returned")
    )
    assert (taken.new, taken.count("collected"), taken.count("failed"), taken.count("returned")) == (4, 1, 1, 1)
    assert paid(owing) == {"mia"}
    assert {one.member_id: one.state for one in read_debits(owing, [NOVEMBER])} == {
        "mia": "collected", "leo": "failed", "oda": "returned", "zoe": "pending",
    }  # fmt: skip


def test_whole_file_that_the_bank_books_as_one_sum_is_collected_but_what_failed(
    owing: Warehouse, tmp_path: Path
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    answered(owing, tmp_path, ("leo", "failed"))
    assert take_booking(owing, NOVEMBER, ON).new == 3
    assert paid(owing) == {"mia", "oda", "zoe"}
    assert take_booking(owing, NOVEMBER, ON).new == 0
    with pytest.raises(PayoutRefused, match="Nothing was collected for 2026-11 on 2026-11-19"):
        take_booking(owing, NOVEMBER, date(2026, 11, 19))


def message(warehouse: Warehouse, folder: Path, content: bytes) -> Taken:
    path = folder / "bank.xml"
    path.write_bytes(content)
    return import_results(warehouse, path)


def states(warehouse: Warehouse) -> dict[str, str]:
    return {one.member_id: one.state for one in read_debits(warehouse, [NOVEMBER])}


@pytest.mark.parametrize("version", BOOKINGS)
def test_banks_own_messages_say_what_became_of_debits(owing: Warehouse, tmp_path: Path, version: str) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    mia, leo, oda, zoe = ids("mia", "leo", "oda", "zoe")
    refused = status_report("pain.002.001.10", message_id(NOVEMBER, ON), [Status(leo, code="AM04")])
    assert (message(owing, tmp_path, refused).count("failed"), states(owing)["leo"]) == (1, "failed")
    entries = [
        Entry("4.00", [Transaction(mia, "2.00", reference="A-1"), Transaction(oda, "2.00", reference="A-2")]),
        Entry("2.00", [Transaction(oda, "2.00", "MD06", reference="A-3", sense="DBIT")], sense="DBIT"),
        Entry("7.00", [Transaction("RENT-11", "7.00")]),
    ]
    taken = message(owing, tmp_path, bookings(version, entries))
    assert taken.remarks == ()
    assert states(owing) == {"mia": "collected", "leo": "failed", "oda": "returned", "zoe": "pending"}
    assert paid(owing) == {"mia"}
    assert message(owing, tmp_path, bookings(version, entries)).new == 0
    assert zoe not in {one.end_to_end_id for one in taken.debits}


def test_whole_file_that_the_bank_rejects_has_failed_and_one_booked_as_a_sum_is_collected(
    owing: Warehouse, tmp_path: Path
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    name = message_id(NOVEMBER, ON)
    booked = bookings("camt.053.001.08", [Entry("8.00", batch=name)])
    assert message(owing, tmp_path, booked).count("collected") == 4
    assert paid(owing) == {"mia", "leo", "oda", "zoe"}
    short = bookings("camt.053.001.08", [Entry("6.00", batch=name, day="2026-12-08")])
    assert "import what failed (pain.002) first" in message(owing, tmp_path, short).remarks[0]
    rejected = status_report("pain.002.001.10", name, group="RJCT", code="FF01")
    contradicted = message(owing, tmp_path, rejected)
    assert (len(contradicted.contradictory), paid(owing)) == (4, set())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (status_report("pain.002.001.10", "FD-1", [Status("FD-202611-ABC", code="AC04")]), "no debit FD-202611-ABC"),
        (bookings("camt.053.001.08", [Entry("7.00", [Transaction("RENT-11", "7.00")])]), "says nothing of our debits"),
        (b"<Document/>", "Nothing was imported"),
    ],
)
def test_message_that_is_not_of_our_debits_is_refused(
    owing: Warehouse, tmp_path: Path, content: bytes, said: str
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    with pytest.raises(PayoutRefused, match=said):
        message(owing, tmp_path, content)
    assert set(states(owing).values()) == {"pending"}


def test_strangers_transfer_under_the_id_of_a_debit_collects_nothing_of_another_amount(
    owing: Warehouse, tmp_path: Path
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    (mia,) = ids("mia")
    taken = message(
        owing, tmp_path, bookings("camt.054.001.08", [Entry("0.01", [Transaction(mia, "0.01", reference="X")])])
    )
    assert "was 2.00" in taken.remarks[0]
    assert paid(owing) == set()


ANSWERS = [("mia", "collected"), ("mia", "returned"), ("leo", "failed"), ("oda", "collected"), ("zoe", "collected"),
           ("zoe", "failed")]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_answers_in_any_order_and_however_often_end_the_same(owing: Warehouse, tmp_path: Path, seed: int) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    chance = random.Random(seed)
    told = [*ANSWERS, *chance.sample(ANSWERS, 3)]
    chance.shuffle(told)
    while told:
        count = chance.randint(1, 3)
        batch, told = told[:count], told[count:]
        answered(owing, tmp_path, *batch)
    assert standing(owing) == {
        **dict.fromkeys(("mia", "leo", "zoe", "eva", "ivo"), (2 * EUR, False)), "oda": (2 * EUR, True),
    }  # fmt: skip
    assert {one.member_id for one in read_debits(owing, [NOVEMBER]) if one.contradictory} == {"zoe"}


def test_every_order_of_one_debits_answers_ends_in_the_same_state(owing: Warehouse, tmp_path: Path) -> None:
    members = ("mia", "leo", "oda", "zoe")
    collect(owing, NOVEMBER, TERMS, TODAY)
    for member, order in zip(members, itertools.permutations(("collected", "failed", "returned")), strict=False):
        for result in order:
            answered(owing, tmp_path, (member, result))
    assert {one.state for one in read_debits(owing, [NOVEMBER])} == {"returned"}
    assert paid(owing) == set()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("FD-202611-000000000000000000000000,2.00,collected,", "there was no debit"),
        ("{mia},2.01,collected,", "was 2.00, but 2.01 was collected"),
        ("{mia},2.00,paid,", "is not collected, failed or returned"),
        ("{mia},two,collected,", "amount 'two' is not a number"),
        ('{mia},2.00,failed,"a\nb"', "not one line"),
        ("{mia},2.00,failed", "3 cells"),
    ],
)
def test_wrong_answers_are_refused_by_line_and_nothing_is_taken(
    owing: Warehouse, tmp_path: Path, row: str, reason: str
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    path = tmp_path / "results.csv"
    good, bad = f"{ids('leo')[0]},2.00,collected,\n", row.format(mia=ids("mia")[0])
    path.write_text(f"end_to_end_id,amount,result,reason\n{good}{bad}\n")
    with pytest.raises(ImportRefused, match=f"line 3: .*{re.escape(reason)}"):
        import_results(owing, path)
    assert paid(owing) == set()
    assert owing.rows("SELECT count() FROM debit_answers") == [(0,)]


@pytest.mark.parametrize("step", ["answers", "pledges"])
def test_crash_while_answers_are_taken_is_made_up_for_by_reading_them_again(
    owing: Warehouse, tmp_path: Path, step: str
) -> None:
    class Died(Exception):
        pass

    def die(done: str) -> None:
        if done == step:
            raise Died

    collect(owing, NOVEMBER, TERMS, TODAY)
    rows = (("mia", "collected"), ("leo", "failed"))
    with pytest.raises(Died):
        answered(owing, tmp_path, *rows, step_done=die)
    assert answered(owing, tmp_path, *rows).new == 0
    assert paid(owing) == {"mia"}


def test_only_the_bank_changes_a_pledge_that_a_debit_is_out_for(owing: Warehouse, tmp_path: Path) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    path = tmp_path / "pledges.csv"
    path.write_text("member_id,month,amount,currency,paid\nmia,2026-11,2.00,EUR,yes\neva,2026-11,2.00,EUR,yes\n")
    with pytest.raises(PayoutRefused, match="A debit is out for the pledge of mia"):
        import_pledges(owing, path, "EUR")
    with pytest.raises(PayoutRefused, match="A debit is out for the pledge of mia"):
        withdraw_members(owing, NOVEMBER, ["mia"])
    answered(owing, tmp_path, ("mia", "collected"))
    path.write_text("member_id,month,amount,currency,paid\nmia,2026-11,2.00,EUR,no\n")
    with pytest.raises(PayoutRefused, match="or has collected it"):
        import_pledges(owing, path, "EUR")
    assert paid(owing) == {"mia"}


def test_member_who_paid_otherwise_after_a_failure_stays_paid_when_the_answer_is_read_again(
    owing: Warehouse, tmp_path: Path
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    answered(owing, tmp_path, ("mia", "failed"), ("leo", "collected"), ("leo", "returned"))
    path = tmp_path / "pledges.csv"
    path.write_text("member_id,month,amount,currency,paid\nmia,2026-11,2.00,EUR,yes\nleo,2026-11,2.00,EUR,yes\n")
    import_pledges(owing, path, "EUR")
    answered(owing, tmp_path, ("mia", "failed"), ("leo", "returned"), ("leo", "collected"))
    assert paid(owing) == {"mia", "leo"}
    with pytest.raises(PayoutRefused, match="Nobody is left"):
        collect(owing, NOVEMBER, replace(TERMS, collect_on=date(2026, 11, 19)), TODAY, more=True)


def test_failed_debit_is_not_tried_again_for_its_month(owing: Warehouse, tmp_path: Path) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    answered(owing, tmp_path, ("mia", "failed"))
    with pytest.raises(PayoutRefused, match="Nobody is left"):
        collect(owing, NOVEMBER, replace(TERMS, collect_on=date(2026, 11, 19)), TODAY, more=True)


def test_debit_that_comes_back_after_the_close_is_charged_back_once(owing: Warehouse, tmp_path: Path) -> None:
    state_month(owing, NOVEMBER, flattrs_of("mia ada 1\nleo bob 1"))
    collect(owing, NOVEMBER, TERMS, TODAY)
    answered(owing, tmp_path, ("mia", "collected"), ("leo", "collected"))
    proof = close(owing, NOVEMBER)
    assert proof.pledged_micro == 4 * EUR
    taken = answered(owing, tmp_path, ("leo", "returned"), ("zoe", "collected"), ("oda", "returned"))
    assert [(entry.kind, entry.amount_micro, entry.cites) for entry in taken.charged_back] == [
        ("chargeback", 2 * EUR, "pledge 2026-11 leo")
    ]
    assert [one.member_id for one in taken.late] == ["zoe"], "it came in too late for the pool, and is named"
    assert answered(owing, tmp_path, ("leo", "returned")).charged_back == ()
    assert standing(owing)["leo"] == (2 * EUR, True), "a sealed month stays as it is"
    pledge(owing, DECEMBER, {"mia": 2 * EUR})
    close(owing, DECEMBER)
    everything_verifies(owing)


def test_erased_member_leaves_no_mandate_and_the_debit_answers_for_the_pseudonym(
    owing: Warehouse, tmp_path: Path
) -> None:
    collect(owing, NOVEMBER, TERMS, TODAY)
    name = erase(owing, "mia", 4, log_days=30, settle_s=0).pseudonym
    assert owing.rows("SELECT count() FROM mandates WHERE member_id = 'mia'") == [(0,)]
    answered(owing, tmp_path, ("mia", "collected"))
    assert paid(owing) == {name}
    with pytest.raises(ImportRefused, match="line 2: mia was erased"):
        mandated(owing, tmp_path)


# On the command line


def test_collection_on_the_command_line(warehouse: Warehouse, tmp_path: Path) -> None:
    noon = datetime(2026, 11, 3, 12, tzinfo=UTC).timestamp() * 1000
    terminal = Terminal({
        "FLATTR_WAREHOUSE": warehouse.url, "FLATTR_CLOCK": f"{(noon - system_clock()) / 1000:+.3f}",
        "FLATTR_CLOSE_DEBTOR_NAME": "Flattr", "FLATTR_CLOSE_DEBTOR_IBAN": "DE89370400440532013000",
    })  # fmt: skip
    pledges, mandates, answers = (tmp_path / name for name in ("pledges.csv", "mandates.csv", "answers.csv"))
    pledges.write_text(
        "member_id,month,amount,currency,paid\n"
        + "".join(f"{member},2026-11,2,EUR,no\n" for member in ("mia", "leo", "oda", "zoe", "eva"))
    )
    terminal.says("pledges", "import", str(pledges), "--yes")
    mandates.write_text(MANDATES, encoding="utf-8")
    assert "--yes" in terminal.refuses("mandates", "import", str(mandates))
    assert "4 mandates are new or changed" in terminal.says("mandates", "import", str(mandates), "--yes")
    wanted = ("pledges", "collect", "2026-11", "--on", "2026-11-18")
    assert terminal.says(*wanted, "--format", "draft").count("\n") == 5
    assert "Who collects is not set: FLATTR_CLOSE_CREDITOR_ID" in terminal.refuses(*wanted, "--yes")
    terminal.environment["FLATTR_CLOSE_CREDITOR_ID"] = "DE98ZZZ09999999999"
    assert "at the earliest" in terminal.refuses("pledges", "collect", "2026-11", "--on", "2026-11-16", "--yes")
    asked = terminal.refuses(*wanted, "--notified", "2026-11-02")
    assert "4 debits, EUR 8.00, on Wednesday, 18 November 2026; members told on 2026-11-02" in asked
    assert "not collected from: 1 members have no mandate: eva" in asked
    file = tmp_path / "debits.xml"
    terminal.says(*wanted, "--yes", "--output", str(file))
    assert terminal.says(*wanted) == file.read_text()
    answers.write_text(f"end_to_end_id,amount,result,reason\n{ids('leo')[0]},2.00,failed,AM04\n")
    assert "failed: leo in 2026-11, 2.00 EUR" in terminal.says("pledges", "results", str(answers))
    assert "3 new answers; of these debits now 3 collected" in terminal.says(
        "pledges", "booked", "2026-11", "--on", "2026-11-18"
    )
    listed = terminal.says("pledges", "debits", "2026-11")
    assert f"{ids('leo')[0]}  leo  2.00 EUR  FRST  failed" in listed
    assert "mia: M-1 of 2026-01-01" in terminal.says("mandates", "withdraw", "mia")
    assert "No mandate is in force of mia" in terminal.refuses("mandates", "withdraw", "mia")
