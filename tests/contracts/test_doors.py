"""One rule for ids and months, at every door: what no click can have, nothing else takes either."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from ingest.admission.caller import read_sites
from ingest.admission.validate import Caller, Validator
from ingest.contract.click import Click
from ingest.contract.month import month_after, month_before, month_text, parse_month
from ingest.runtime.tokens import issue, keygen
from ingest.runtime.watched_file import FileError
from tests.api.conftest import idle_api  # noqa: F401 - a fixture
from tests.support.serving import ask
from warehouse.erasure.erase import erase, find
from warehouse.payout.close import months
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs import adjustments, creators
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

#: No ids: a blank, inside and around; an umlaut; a look-alike from Cyrillic; invisible; too long; nothing.
WRONG = ["a b", " a b ", "m\u00fcller", "\u0430lice", "a\u200bb", "a\u00a0b", "a\x7f", "\ufeffann", "a" * 65, ""]
ODD_AND_RIGHT = ["a", "a" * 64, "'alice", "=1+1", "a/b?c#d%e", "~!@$^&*()[]{}|\\;:,.<>`\"'_-"]

PLEDGE = "member_id,month,amount,currency,paid\n{id},2026-11,2.00,EUR,yes\n"
CREATOR = "creator_id,name,iban,bic\n{id},Ada,DE89370400440532013000,\n"


def csv_cell(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def clicked(fields: dict[str, str]) -> Click:
    """The click that ingest takes from these fields."""
    (verdict,) = Validator().read(json.dumps(fields).encode(), b"application/json", Caller("bob"), 0)
    if isinstance(verdict, Click):
        return verdict
    raise ValueError(verdict.detail)


def doors(warehouse: Warehouse, folder: Path) -> dict[str, Callable[[str], object]]:
    """Every way by which an id comes in, but for the read API's."""
    keys = folder / "keys.json"
    if not keys.exists():
        keygen(keys, algorithm="HS256", kid="k")
    return {
        "a pledge": lambda name: import_pledges(
            warehouse, written(folder / "pledges.csv", PLEDGE.format(id=csv_cell(name))), "EUR"
        ),
        "the register": lambda name: creators.import_creators(
            warehouse, written(folder / "creators.csv", CREATOR.format(id=csv_cell(name)))
        ),
        "a hold": lambda name: creators.hold(warehouse, name, "asked"),
        "a release": lambda name: creators.release(warehouse, name),
        "a correction": lambda name: adjustments.correct(warehouse, name, 1, against="fee", month=202611, reason="r"),
        "an erasure": lambda name: erase(warehouse, name, 4, log_days=30),
        "a look at what would be erased": lambda name: find(warehouse, name),
        "a flag on a member": lambda name: Subject.of(member_id=name),
        "a flag on a creator": lambda name: Subject.of(creator_id=name),
        "a flag on a site": lambda name: Subject.of(site_id=name),
        "a token": lambda name: issue(keys, name, audience="flattr", now_ms=0, valid_s=60),
        "a site": lambda name: read_sites(
            written(folder / "sites.json", json.dumps({"k": {"site_id": name, "origins": []}}))
        ),
        "a click": lambda name: clicked({"creator_id": name, "thing": "t"}),
        "a click from a site": lambda name: clicked({"creator_id": "ada", "site_id": name, "thing": "t"}),
    }


@pytest.mark.parametrize("name", WRONG)
def test_what_no_click_can_have_comes_in_by_no_door(warehouse: Warehouse, tmp_path: Path, name: str) -> None:
    for door, enter in doors(warehouse, tmp_path).items():
        with pytest.raises((PayoutRefused, ValueError, FileError)) as refused:
            enter(name)
        if name and not door.startswith("a click"):
            assert "is not 1 to 64 visible ASCII characters" in str(refused.value), door
    for table in ("pledges", "pledge_imports", "creators", "adjustments", "erasures"):
        assert warehouse.rows(f"SELECT count() FROM {table}") == [(0,)]


@pytest.mark.parametrize("name", ODD_AND_RIGHT)
def test_what_a_click_can_have_comes_in_by_every_door(warehouse: Warehouse, tmp_path: Path, name: str) -> None:
    for door, enter in doors(warehouse, tmp_path).items():
        if door not in {"a correction", "an erasure"}:  # those need a line to correct, or change the rest
            enter(name)


def test_refusal_names_the_line_and_the_sign_that_is_none(warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(PayoutRefused, match=r"line 2: member_id .* visible ASCII characters: U\+0430 is not allowed"):
        doors(warehouse, tmp_path)["a pledge"]("\u0430lice")


def test_blanks_around_the_cells_of_a_file_are_no_part_of_them(warehouse: Warehouse, tmp_path: Path) -> None:
    for door in ("a pledge", "the register"):
        doors(warehouse, tmp_path)[door](" ada ")
    assert warehouse.rows("SELECT (SELECT any(member_id) FROM pledges), (SELECT any(creator_id) FROM creators)") == [
        ("ada", "ada")
    ]


@pytest.mark.parametrize("path", ["creators/{}/counts", "members/{}/counts", "counters?creator={}&thing=x"])
def test_read_api_asks_for_ids_that_a_click_can_have(idle_api: str, path: str) -> None:  # noqa: F811
    for name in WRONG:
        if name:
            answer = ask(f"{idle_api}/v1/" + path.format(quote(name, safe="")))
            assert (answer.status, answer.json["reason"]) == (422, "parameter_invalid"), name
            assert "is not 1 to 64 visible ASCII characters" in answer.json["detail"]
    assert ask(f"{idle_api}/v1/" + path.format(quote("=1+1", safe=""))).status == 200


MONTHS = [("1970-01", 197001), ("1997-09", 199709), ("2026-11", 202611), ("2248-08", 224808)]
NO_MONTHS = [
    "",
    "2026-13",
    "2026-00",
    "2026-1",
    "202611",
    "november",
    "2026-11 ",
    "\u0662026-11",
    "2026-11\n",
    "-026-11",
]
OUTSIDE = ["0000-01", "1969-12", "2248-09", "9999-12"]


@pytest.mark.parametrize(("text", "month"), MONTHS)
def test_every_month_that_has_times_is_a_month_everywhere(idle_api: str, text: str, month: int) -> None:  # noqa: F811
    assert parse_month(text) == months.parse_month(text) == month
    assert month_text(month) == text
    assert month_before(month_after(month)) == month
    answer = ask(f"{idle_api}/v1/creators/ada/counts?month={text}")
    assert (answer.status, answer.json["month"]) == (200, text)
    assert ask(f"{idle_api}/v1/months/{text}").status == 200


@pytest.mark.parametrize("text", [*NO_MONTHS, *OUTSIDE])
def test_what_is_no_month_is_refused_everywhere_with_a_true_sentence(idle_api: str, text: str) -> None:  # noqa: F811
    said = "is outside 1970-01 to 2248-08" if text in OUTSIDE else "is not a month: write it as YYYY-MM"
    with pytest.raises(ValueError, match=said):
        parse_month(text)
    with pytest.raises(PayoutRefused, match=said):
        months.parse_month(text)
    answer = ask(f"{idle_api}/v1/creators/ada/counts?month={quote(text)}")
    assert (answer.status, answer.json["reason"]) == (422, "month_malformed")
    assert said in answer.json["detail"]


@pytest.mark.parametrize(
    "words",
    [
        ["replay", "--month", "2026-13"],
        ["rejected", "list", "--month", "2026-13"],
        ["month", "status", "2026-13"],
        ["quarantine", "list", "2026-13"],
        ["payouts", "show", "2026-13"],
    ],
)
def test_command_that_is_given_no_month_says_so_in_a_sentence(words: list[str], warehouse: Warehouse) -> None:
    environment = {"PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path), "FLATTR_WAREHOUSE": warehouse.url}
    command = [sys.executable, "-m", "deploy", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "'2026-13' is not a month: write it as YYYY-MM" in done.stderr
    assert "Traceback" not in done.stderr
