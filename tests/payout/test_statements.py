"""Statements, over HTTP as finance reads them, re-derived by hand."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from tests.api.conftest import settings_for
from tests.conftest import Migrated
from tests.payout.build import closing, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.support.commands import app
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.payout.books import statements
from warehouse.payout.books.creator_statement import creator_statement
from warehouse.payout.close.proof import Proof
from warehouse.payout.inputs.adjustments import correct
from warehouse.payout.inputs.creators import hold
from warehouse.storage.client import Warehouse

NOVEMBER = "2026-11"


@pytest.fixture(scope="module")
def books(migrated: Migrated) -> Iterator[Warehouse]:
    """A database of the module's own: what is closed never changes, so the tests share it."""
    with migrated("test_statements") as database:
        yield database


@pytest.fixture(scope="module")
def api(books: Warehouse) -> Iterator[str]:
    with serving(create_app(settings_for(books))) as url:
        yield url


@pytest.fixture(scope="module", autouse=True)
def proof(books: Warehouse) -> Proof:
    """mia: 7 flattrs on 1.80, which 7 does not divide; nil: everything to bob; oda: nothing."""
    state_month(books, 202611, flattrs_of("mia ada 3\nmia bob 2\nmia cat 2\nnil bob 1"))
    pledge(books, 202611, {"mia": 2_000_000, "nil": 2_000_000, "oda": 2_000_000})
    return close(books, 202611)


@pytest.fixture(scope="module")
def december(books: Warehouse) -> None:
    """A month of names that are markup and formulas, for members name what they click and what they are called."""
    state_month(books, 202612, flattrs_of("zoe <b>x</b> 1\n@SUM(1) ada 1\n@SUM(1) =1+1 1"))
    pledge(books, 202612, {"zoe": 2_000_000, "@SUM(1)": 2_000_000})
    close(books, 202612, closing())


def test_member_statement_re_derives_to_the_micro_unit_and_to_clicks(proof: Proof, api: str) -> None:
    body = ask(f"{api}/v1/months/{NOVEMBER}/members/mia/statement").json
    assert body["pledge_micro"] - body["fee_micro"] + body["carried_in_micro"] == body["pool_micro"] == 1_800_000
    left = 1_800_000
    for line in body["shares"]:
        down, remainder = divmod(1_800_000 * line["flattrs"], 7)
        assert (line["rounded_down_micro"], line["remainder"]) == (down, remainder)
        assert line["share_micro"] - down in {0, 1}
        left -= line["share_micro"]
    assert left == 0
    up = {line["creator_id"] for line in body["shares"] if line["share_micro"] > line["rounded_down_micro"]}
    # Rounded down they leave 2 micro-units; 5,400,000 over 7 leaves 4 and 3,600,000 over 7 leaves 5.
    assert {line["creator_id"]: line["remainder"] for line in body["shares"]} == {"ada": 4, "bob": 5, "cat": 5}
    assert up == {"bob", "cat"}
    assert len(body["clicks"]) == body["flattrs"] == 7
    assert len({click["click_id"] for click in body["clicks"]}) == 7
    assert body["seal"] == proof.seal


def test_creator_statement_is_the_sum_of_its_shares(api: str) -> None:
    body = ask(f"{api}/v1/months/{NOVEMBER}/creators/bob/statement").json
    payout = body["payout"]
    assert sum(line["share_micro"] for line in body["shares"]) == payout["earned_micro"]
    assert payout["earned_micro"] == payout["paid_micro"] + payout["carried_out_micro"]
    for line in body["shares"]:
        down, remainder = divmod(line["pool_micro"] * line["flattrs"], line["member_flattrs"])
        assert (line["rounded_down_micro"], line["remainder"]) == (down, remainder)
        assert line["share_micro"] - down in {0, 1}


@pytest.mark.parametrize("form", ["json", "csv", "html"])
def test_creator_statement_goes_down_to_days_and_things_and_names_no_member(api: str, form: str) -> None:
    url = f"{api}/v1/months/{NOVEMBER}/creators/bob/statement"
    body = ask(url).json
    assert sum(line["earned_micro"] for line in body["things"]) == body["payout"]["earned_micro"] == 2_314_286
    assert [(line["day"], line["flattrs"]) for line in body["things"]] == [("2026-11-01", 2), ("2026-11-01", 1)]
    assert sorted(line["supporter"] for line in body["shares"]) == [1, 2]
    text = ask(f"{url}?form={form}").body.decode()
    assert not re.search(r"\b(mia|nil)\b", text)


def test_creator_statement_says_why_so_little_is_paid(warehouse: Warehouse) -> None:
    """Finding U16: the minimum, the reason of a hold, the reasons of corrections."""
    state_month(warehouse, 202611, flattrs_of("mia ada 1\nmia bob 1"))
    pledge(warehouse, 202611, {"mia": 2_000_000})
    rules = closing(close_minimum_minor=1000)
    close(warehouse, 202611, rules)
    correct(warehouse, "ada", 250_000, against="fee", month=202611, reason="a click was lost")
    hold(warehouse, "bob", "the account is being checked")
    state_month(warehouse, 202612, flattrs_of("mia ada 1\nmia bob 1"))
    pledge(warehouse, 202612, {"mia": 2_000_000})
    proof = close(warehouse, 202612, rules)
    ada, bob = (creator_statement(warehouse, proof, name) for name in ("ada", "bob"))
    assert ada.minimum_micro == 10_000_000
    assert "below the minimum" in ada.why
    assert [(note.amount_micro, note.reason) for note in ada.notes] == [(250_000, "a click was lost")]
    assert bob.why == "The money is held: the account is being checked."
    page = statements.page(ada)
    assert "below the minimum" in page
    assert "a click was lost" in page


def test_statement_of_a_member_without_flattrs_says_where_the_pool_went(api: str) -> None:
    body = ask(f"{api}/v1/months/{NOVEMBER}/members/oda/statement").json
    assert (body["rule"], body["charity_micro"], body["shares"], body["clicks"]) == ("charity", 1_800_000, [], [])


@pytest.mark.usefixtures("december")
def test_statement_comes_as_csv_and_as_a_page_that_escapes_names(api: str) -> None:
    table = ask(f"{api}/v1/months/{NOVEMBER}/members/mia/statement?form=csv")
    rows = list(csv.DictReader(io.StringIO(table.body.decode())))
    assert sum(int(row["share_micro"]) for row in rows) == 1_800_000
    page = ask(f"{api}/v1/months/{NOVEMBER}/members/mia/statement?form=html").body.decode()
    assert "0.514286" in page
    assert "5/7" in page
    page = ask(f"{api}/v1/months/2026-12/members/zoe/statement?form=html").body.decode()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x" not in page


def test_ledger_pages_hold_every_entry_once_and_balance(books: Warehouse, api: str) -> None:
    entries, after = [], ""
    while True:
        body = ask(f"{api}/v1/months/{NOVEMBER}/ledger?limit=4&after={after}").json
        entries += body["entries"]
        if body["next"] is None:
            break
        after = body["next"]
    assert [(len(entries),)] == books.rows("SELECT count() FROM ledger WHERE month = 202611")
    into = sum(entry["amount_micro"] for entry in entries if entry["credit_class"] == "pool")
    out = sum(entry["amount_micro"] for entry in entries if entry["debit_class"] == "pool")
    assert into == out == 3_600_000


def test_closed_month_is_not_sent_twice(proof: Proof, api: str) -> None:
    url = f"{api}/v1/months/{NOVEMBER}/ledger"
    tag = ask(url).headers["etag"]
    assert tag == f'"{proof.seal}"'
    again = ask(url, headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("2027-03/ledger", "month_not_closed"),
        ("2027-03/members/mia/statement", "month_not_closed"),
        ("2026-11/members/nobody/statement", "line_unknown"),
        ("2026-11/creators/nobody/statement", "line_unknown"),
        ("2026-11/members/a%2Fb/statement", "line_unknown"),
        ("2026-11/creators/a/statement/statement", "line_unknown"),
    ],
)
def test_what_is_not_there_is_said(api: str, path: str, reason: str) -> None:
    answer = ask(f"{api}/v1/months/{path}")
    assert (answer.status, answer.json["reason"]) == (404, reason)


def test_names_are_no_markup_on_a_terminal(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing tag without an opening one ended the table in a traceback: any member can click it into being."""
    state_month(warehouse, 202611, flattrs_of("mia [/b]:+1:\\\\[red] 1"))
    pledge(warehouse, 202611, {"mia": 2_000_000})
    close(warehouse, 202611, closing())
    for module in ("finance", "commands.payouts"):
        monkeypatch.setattr(f"deploy.cli.{module}.warehouse", lambda: warehouse)
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, ["payouts", "show", NOVEMBER])
    assert shown.exit_code == 0
    assert "[/b]:+1:\\\\[red]" in shown.stdout


@pytest.mark.usefixtures("december")
@pytest.mark.parametrize("creator", ["%3Cb%3Ex%3C%2Fb%3E", "<b>x</b>".replace("<", "%3C")])
def test_an_id_with_a_slash_has_a_statement(api: str, creator: str) -> None:
    statement = ask(f"{api}/v1/months/2026-12/creators/{creator}/statement").json
    assert statement["payout"]["creator_id"] == "<b>x</b>"


@pytest.mark.usefixtures("december")
def test_ids_that_members_clicked_into_being_are_no_formulas_in_any_csv(api: str) -> None:
    for path, cell in {
        "payouts.csv": "'=1+1",
        "members/@SUM(1)/statement?form=csv": "'=1+1",
    }.items():
        table = ask(f"{api}/v1/months/2026-12/{path}").body.decode()
        cells = [text for row in csv.reader(io.StringIO(table)) for text in row]
        assert cell in cells, table
        assert not [text for text in cells if text.startswith(("=", "@"))], path
    # A creator's names no member at all.
    assert "SUM" not in ask(f"{api}/v1/months/2026-12/creators/ada/statement?form=csv").body.decode()
