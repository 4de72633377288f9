"""What banks answer becomes plain facts, and no byte of it becomes anything else."""

from __future__ import annotations

import socket
import time
from datetime import date
from pathlib import Path

import pytest

from tests.payout.bank_messages import BOOKINGS, STATUS_REPORTS, Entry, Status, Transaction, bookings, status_report
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs import bank_xml
from warehouse.payout.inputs.bank_answers import Fact, read_answers

FILE = "FL-202611-0123456789ABCDEF0123"
ADA, BOB = "FL-202611-AAAAAAAAAAAAAAAAAAAAAAAA", "FL-202611-BBBBBBBBBBBBBBBBBBBBBBBB"
NEW = "camt.053.001.08"
SAID, BOOKED = date(2026, 12, 3), date(2026, 12, 7)


@pytest.mark.parametrize("version", STATUS_REPORTS)
def test_status_report_says_which_payments_are_rejected_and_why(version: str) -> None:
    content = status_report(
        version,
        FILE,
        [
            Status(ADA, code="AC04", amount="1.12", note="account  closed\nlong ago"),
            Status(BOB, "ACSP"),
            Status("NOTPROVIDED", code="XX99"),
        ],
        group="PART",
    )
    assert read_answers(content) == [
        Fact("rejected", ADA, FILE, 1_120_000, "EUR", code="AC04", note="account closed long ago", said_on=SAID),
        Fact("accepted", BOB, FILE, said_on=SAID),
        Fact("rejected", "NOTPROVIDED", FILE, code="XX99", said_on=SAID),
    ]


@pytest.mark.parametrize("version", STATUS_REPORTS)
def test_whole_file_or_whole_block_is_rejected_without_single_payments(version: str) -> None:
    whole = Fact("rejected", "", FILE, code="FF01", said_on=SAID, is_whole_file=True)
    assert read_answers(status_report(version, FILE, group="RJCT", code="FF01")) == [whole]
    assert read_answers(status_report(version, FILE, group="PART", block="RJCT", code="FF01")) == [whole]
    listed = read_answers(status_report(version, FILE, [Status(ADA, "", "AC01")], block="RJCT", code="FF01"))
    assert listed == [whole, Fact("rejected", ADA, FILE, code="AC01", said_on=SAID)], "without a status: the block's"
    assert read_answers(status_report(version, FILE, group="ACCP")) == []
    (nameless,) = read_answers(status_report(version, FILE, [Status("", code="AC01")]))
    assert (nameless.end_to_end_id, nameless.is_whole_file) == ("", False), "one without a name is not all of them"


@pytest.mark.parametrize("version", BOOKINGS)
def test_entry_of_several_returns_gives_each_with_its_names(version: str) -> None:
    content = bookings(
        version,
        [
            Entry(
                "3.00",
                [
                    Transaction(ADA, "1.12", "AC04", "R1", "T1", note="closed"),
                    Transaction(BOB, "1.88", "MS03", transaction_id="T2"),
                ],
                reference="E1",
            )
        ],
    )
    assert read_answers(content) == [
        Fact("returned", ADA, "", 1_120_000, "EUR", True, "AC04", "closed", "R1", "T1", BOOKED),
        Fact("returned", BOB, "", 1_880_000, "EUR", True, "MS03", "", "E1", "T2", BOOKED),
    ]


@pytest.mark.parametrize("version", BOOKINGS)
def test_what_is_booked_pending_reversed_or_summed_up_is_told_apart(version: str) -> None:
    one = [Transaction("E2E", "5")]
    content = bookings(
        version,
        [
            Entry("5", one),
            Entry("5", one, sense="DBIT"),
            Entry("5", [Transaction(ADA, code="AC01")], status="PDNG"),
            Entry("5", [Transaction(ADA)], reversal=True),
            Entry("5", [Transaction(ADA)], family="RRTN"),
            Entry("5", [Transaction(ADA, code="-")]),
            Entry("5", batch=FILE, reversal=True),
            Entry("5", [Transaction("FD-1", code="AM04")], sense="DBIT"),
        ],
    )
    facts = read_answers(content)
    assert [(fact.kind, fact.end_to_end_id, fact.is_credit) for fact in facts] == [
        ("booked", "E2E", True), ("booked", "E2E", False), ("pending", ADA, True), ("returned", ADA, True),
        ("returned", ADA, True), ("returned", ADA, True), ("returned", "", True), ("returned", "FD-1", False),
    ]  # fmt: skip
    assert {fact.amount_micro for fact in facts} == {5_000_000}, "the only transaction's amount is the entry's"
    assert facts[6].file_id == FILE


@pytest.mark.parametrize("version", BOOKINGS)
def test_two_returns_of_one_payment_under_one_name_are_two(version: str) -> None:
    parts = [Transaction(ADA, "0.50", "AC04"), Transaction(BOB, "1", "AC04"), Transaction(ADA, "0.62", "AC04")]
    facts = read_answers(bookings(version, [Entry("2.12", parts, reference="E1")]))
    assert [(fact.end_to_end_id, fact.account_reference) for fact in facts] == [(ADA, "E1"), (BOB, "E1"), (ADA, "E1/2")]


@pytest.mark.parametrize("version", BOOKINGS)
def test_transactions_that_are_more_than_their_entry_are_refused(version: str) -> None:
    parts = [Transaction(ADA, "1.12", "AC04"), Transaction(BOB, "1.89", "AC04")]
    with pytest.raises(PayoutRefused, match=r"of the entry E1 are 3\.010000 EUR, but the entry is 3\.000000"):
        read_answers(bookings(version, [Entry("3.00", parts, reference="E1")]))


def test_opposite_sense_of_a_transaction_counts_as_such() -> None:
    parts = [Transaction(ADA, "1.12", "AC04", sense="CRDT"), Transaction("FEE", "0.12", sense="DBIT")]
    facts = read_answers(bookings(NEW, [Entry("1.00", parts)]))
    assert [(fact.end_to_end_id, fact.is_credit, fact.kind) for fact in facts] == [
        (ADA, True, "returned"),
        ("FEE", False, "booked"),
    ]


def refused(content: bytes) -> str:
    begun = time.monotonic()
    with pytest.raises(PayoutRefused) as error:
        read_answers(content)
    assert time.monotonic() - begun < 20
    return str(error.value)


def with_document_type(declarations: str, text: str = "x") -> bytes:
    whole = status_report(STATUS_REPORTS[1], FILE, [Status(ADA, code="AC04", note="NOTE")]).decode()
    head, _, rest = whole.partition("\n")
    return f"{head}\n<!DOCTYPE Document [{declarations}]>\n{rest.replace('NOTE', text)}".encode()


def laughs() -> str:
    lines = ['<!ENTITY l0 "ha">', *(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))]
    return "".join(lines)


def test_document_types_and_entities_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("geheim")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.dtd"
        attacks = [
            with_document_type(laughs(), "&l9;"),
            with_document_type(f'<!ENTITY big "{"x" * 100_000}">', "&big;" * 1000),
            with_document_type(f'<!ENTITY file SYSTEM "{secret.as_uri()}">', "&file;"),
            with_document_type(f'<!ENTITY net SYSTEM "{address}">', "&net;"),
            with_document_type(f'<!ENTITY % all SYSTEM "{address}"> %all;'),
            f'<!DOCTYPE Document SYSTEM "{address}"><Document/>'.encode(),
        ]
        for attack in attacks:
            assert "declares a document type" in refused(attack)
        for attack in attacks:
            assert "not UTF-8" in refused(attack.decode().encode("utf-16"))
            assert "well-formed" in refused(attack.decode().encode("utf-16-le"))
        with pytest.raises(TimeoutError):
            server.accept()


def test_document_type_behind_an_encoding_of_its_own_is_none() -> None:
    """UTF-7 writes a bracket as +ADw-: what the file declares does not decide how it is read."""
    body = "+ADw-!DOCTYPE Document [+ADw-!ENTITY x SYSTEM +ACI-file:///etc/passwd+ACI-+AD4-]+AD4-"
    assert "well-formed" in refused(f'<?xml version="1.0" encoding="UTF-7"?>{body}<Document/>'.encode())


@pytest.mark.parametrize(
    "attack",
    [
        b"",
        b"\x00",
        b"<",
        b"<Document/>",
        b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:pacs.004.001.09'/>",
        b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'/>",
        b"<x:Document xmlns:x='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08' x:y='1'/>",
        b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'><BkToCstmrStmt/></Document>",
        b"<Document>" * 10,
        b"\xff\xfe<\x00D\x00",
        b"payment_id,amount,reason\n",
    ],
)
def test_what_is_no_message_of_a_bank_is_refused_with_a_sentence(attack: bytes) -> None:
    assert "Nothing was imported" in refused(attack)


def test_size_elements_depth_and_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one = bookings(NEW, [Entry("5", [Transaction(ADA, code="AC04", note="NOTE")])]).decode()
    deep = one.replace("<Pty/>", "<a>" * 60 + "</a>" * 60)
    assert "deeper than 40" in refused(deep.encode())
    deepest = one.replace("<Pty/>", "<a>" * 100_000 + "</a>" * 100_000)
    assert "well-formed" in refused(deepest.encode())
    assert "AddtlInf" in refused(one.replace("NOTE", "x" * 5_000_000).encode())
    assert "well-formed" in refused(one.replace("NOTE", "x" * 11_000_000).encode())
    assert "more than 4,194,304 elements" in refused(one.replace("<Pty/>", "<a/>" * 5_000_000).encode())
    assert "more than 4,194,304 elements" in refused(one.replace("<Pty/>", "<a " + "b='' " * 5_000_000 + "/>").encode())
    assert "larger than 32 MiB" in refused(one.encode() + b" " * (33 << 20))
    monkeypatch.setattr(bank_xml, "_MARKUP_MAX", 10)
    assert "more than 10 elements" in refused(one.encode())


def test_what_does_not_follow_the_schema_is_named_by_line() -> None:
    version = "camt.054.001.08"
    content = bookings(version, [Entry("5", [Transaction(ADA, code="AC04")])]).decode()
    for old, new, named in [
        ('Ccy="EUR">5', 'Ccy="EUR">-5', "Amt"),
        ('Ccy="EUR">5', 'Ccy="EUR">5,00', "Amt"),
        ('Ccy="EUR">5', 'Ccy="EUR">1e3', "Amt"),
        ('Ccy="EUR">5', 'Ccy="EUR">NaN', "Amt"),
        ('Ccy="EUR">5', ">5", "Ccy"),
        ("CRDT", "BOTH", "CdtDbtInd"),
        ("2026-12-07</Dt></BookgDt>", "2026-02-30</Dt></BookgDt>", "Dt"),
        ("2026-12-07</Dt></BookgDt>", "0001-02-03</Dt></BookgDt>", "Dt"),
        (f"<EndToEndId>{ADA}", f"<EndToEndId>{ADA}{ADA}", "EndToEndId"),
        ("AC04", "AC04AC04", "Cd"),
        ("<Ntry>", "<Ntry><Evil/>", "Evil"),
    ]:
        assert old in content
        said = refused(content.replace(old, new, 1).encode())
        assert f"no valid {version}" in said
        assert f"line 2: Element '{named}'" in said or f"'{named}'" in said


def test_hint_where_a_schema_may_lie_is_not_followed() -> None:
    content = bookings(NEW, [Entry("5", [Transaction(ADA, code="AC04")])]).decode()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        hint = f'xsi:schemaLocation="{bank_xml._ISO}{NEW} http://127.0.0.1:{server.getsockname()[1]}/x.xsd"'
        xsi = f'<Document xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {hint} '
        assert len(read_answers(content.replace("<Document ", xsi).encode())) == 1
        with pytest.raises(TimeoutError):
            server.accept()


def test_text_that_is_cut_by_a_comment_or_hidden_behind_signs_is_read_whole() -> None:
    content = bookings(NEW, [Entry("5", [Transaction(ADA, code="AC04", note="a\x9b31mb")])]).decode()
    cut = content.replace(ADA, f"{ADA[:10]}<!-- x -->{ADA[10:20]}<?x y?><![CDATA[{ADA[20:]}]]>\n")
    (fact,) = read_answers(cut.encode())
    assert fact.end_to_end_id == ADA
    assert fact.note == "a 31mb"


def test_mark_at_the_beginning_and_lines_before_it_are_skipped() -> None:
    content = bookings(NEW, [Entry("5", [Transaction(ADA, code="AC04")])])
    assert bank_xml.is_xml(b"\xef\xbb\xbf\n" + content)
    assert not bank_xml.is_xml(b"payment_id,amount,reason\n")
    assert read_answers(b"\xef\xbb\xbf" + content) == read_answers(content) == read_answers(b"\n " + content)
