"""Keys for one creator, member or site, and tokens for one stream: good for that one alone, from any page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingest.contract.thing import thing_id
from tests.api.conftest import settings_for
from tests.api.rows import put_creator_counts, put_things
from tests.security.test_authorisation import ROWS
from tests.support.commands import app
from tests.support.serving import Answer, Listener, ask, serving
from warehouse import keys
from warehouse.api.app import create_app
from warehouse.keys import Role
from warehouse.storage.client import Warehouse

ANNA, MEMBER = "creator:anna", "member:m-1"


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    made = {
        name: keys.issue(name, role, only)
        for name, role, only in (
            ("embed", Role.DASHBOARD, ANNA), ("books", Role.FINANCE, ANNA), ("member", Role.FINANCE, MEMBER),
            ("whole", Role.DASHBOARD, ""), ("site", Role.DASHBOARD, "site:anna.example"),
        )
    }  # fmt: skip
    keys.save(tmp_path / "keys.json", [key for _, key in made.values()])
    return {name: secret for name, (secret, _) in made.items()}


@pytest.fixture
def locked(warehouse: Warehouse, tmp_path: Path, secrets: dict[str, str]) -> Iterator[str]:
    assert secrets
    with serving(create_app(settings_for(warehouse, api_keys=tmp_path / "keys.json"))) as url:
        yield url


def ask_with(url: str, secret: str) -> Answer:
    headers = {"Authorization": f"Bearer {secret}", "Origin": "https://site.example"}
    return ask(url, headers=headers, method="HEAD", follow=False)


@pytest.mark.parametrize(
    ("name", "own"), [("embed", "/creators/anna"), ("books", "/creators/anna"), ("member", "/members/m-1")]
)
def test_scoped_key_opens_what_is_about_its_own_and_nothing_else(
    locked: str, secrets: dict[str, str], name: str, own: str
) -> None:
    opened = set()
    for method, path, needed in ROWS:
        if method == "GET" and needed in ("dashboard", "finance", "operator"):
            status = ask_with(locked + path, secrets[name]).status
            assert (status in (200, 404)) is (own in path and (name != "embed" or needed == "dashboard")), path
            opened |= {path} if status == 200 else set()
    assert len(opened) >= 2


@pytest.mark.parametrize(
    "other", ["bob", "anna2", "Anna", "ann", "anna/x", "anna%20", "anna%00", "..%2Fanna", "anna/../bob"]
)
def test_scoped_key_is_not_for_a_creator_of_a_similar_name(locked: str, secrets: dict[str, str], other: str) -> None:
    assert ask_with(f"{locked}/v1/creators/{other}/counts", secrets["embed"]).status in (403, 422)
    assert ask_with(f"{locked}/creators/{other}", secrets["embed"]).status in (403, 422)


def test_key_of_a_site_follows_its_things_where_they_moved_and_believes_no_other_address(
    warehouse: Warehouse, tmp_path: Path, secrets: dict[str, str]
) -> None:
    moved, left = thing_id("bob", "https://anna.example/new/1"), thing_id("bob", "https://elsewhere.example/1")
    other_port, upper = thing_id("bob", "https://anna.example:8443/1"), thing_id("bob", "http://anna.example/2")
    forged = thing_id("bob", "https://bob.example/3")
    put_things(
        warehouse,
        [
            (moved, "bob", "https://old.example/1"),
            (left, "bob", "https://anna.example/left/1"),
            (other_port, "bob", "https://anna.example:8443/1"),
            (upper, "bob", "HTTP://anna.example:80/2#x"),
            # As if somebody could write another address beside an id.
            (forged, "bob", "https://anna.example/3"),
        ],
    )
    aliases = {
        "https://old.example/": "https://anna.example/new/",
        "https://anna.example/left": "https://elsewhere.example/",
    }
    (tmp_path / "aliases.json").write_text(json.dumps(aliases))
    told = settings_for(warehouse, api_keys=tmp_path / "keys.json", ingest_aliases_file=tmp_path / "aliases.json")
    with serving(create_app(told)) as url:
        for thing, status in (
            (moved, 200),
            (upper, 200),
            (left, 403),
            (other_port, 403),
            (forged, 403),
            ("f" * 32, 403),
        ):
            assert ask_with(f"{url}/v1/things/{thing}/counts", secrets["site"]).status == status, thing
        for path in (f"/v1/things/{moved.upper()}/counts", "/v1/things/x/counts", "/v1/things/%00/counts"):
            assert ask_with(url + path, secrets["site"]).status in (403, 404, 422)


def test_refusals_may_be_read_by_the_page_that_asked(locked: str, secrets: dict[str, str]) -> None:
    for path, secret, status in (
        ("/v1/creators/anna/counts", "flk_x", 401),
        ("/v1/creators/bob/counts", secrets["embed"], 403),
        ("/v1/creators/anna/live", "flk_x", 401),
        ("/v1/nothing", "flk_x", 404),
    ):
        answer = ask_with(locked + path, secret)
        assert (answer.status, answer.headers.get("access-control-allow-origin")) == (status, "*")


def test_pages_of_other_sites_read_nothing_private_of_an_api_without_keys(idle_api: str) -> None:
    for path, is_open in (
        ("/v1/counters?things=" + "1" * 32, True),
        ("/v1/months", False),
        ("/v1/members/m/counts", False),
    ):
        answer = ask(idle_api + path, headers={"Origin": "https://site.example"})
        assert ("access-control-allow-origin" in answer.headers) is is_open
    assert ask(f"{idle_api}/v1/months", method="OPTIONS").status == 405


def token(url: str, secret: str | None, creator: str = "anna") -> str:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    answer = ask(f"{url}/v1/creators/{creator}/live-token", headers=headers)
    assert answer.headers["cache-control"] == "no-store"
    found: str = answer.json["token"]
    return found


def test_stream_opens_to_a_token_in_its_address_which_is_not_the_key(
    warehouse: Warehouse, locked: str, secrets: dict[str, str]
) -> None:
    put_creator_counts(warehouse, [(202611, "anna", 0, 7, 9)])
    made = token(locked, secrets["embed"])
    assert secrets["embed"] not in made
    with Listener(f"{locked}/v1/creators/anna/live?token={made}") as listener:
        assert listener.next()[2]["flattrs"] == 7
    for path in ("/v1/creators/bob/live", "/v1/creators/anna/counts", "/v1/creators/anna/live-token"):
        assert ask(f"{locked}{path}?token={made}", method="HEAD").status in (401, 422)
    for text in ("", "x", "%C3%BC", "%00", made[:-2], secrets["embed"]):
        assert ask(f"{locked}/v1/creators/anna/live?token={text}", method="HEAD").status == 401


def test_stream_token_dies_with_its_key_and_after_a_minute(
    warehouse: Warehouse, tmp_path: Path, secrets: dict[str, str]
) -> None:
    told = settings_for(warehouse, api_keys=tmp_path / "keys.json", api_session_secret=tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"s" * 32)
    later = told.model_copy(update={"clock": f"{float(told.clock) + 61:+.3f}"})
    with serving(create_app(told)) as now, serving(create_app(later)) as then:
        made = token(now, secrets["embed"])
        assert ask(f"{now}/v1/creators/anna/live?token={made}", method="HEAD").status == 200
        assert ask(f"{then}/v1/creators/anna/live?token={made}", method="HEAD").status == 401
        keys.save(tmp_path / "keys.json", [])
        assert ask(f"{now}/v1/creators/anna/live?token={made}", method="HEAD").status == 401


def test_commands_issue_keys_for_one_and_refuse_what_no_route_could_honour(tmp_path: Path) -> None:
    run, file = CliRunner(), ["--file", str(tmp_path / "keys.json")]
    assert run.invoke(app, ["keys", "issue", "embed", "dashboard", "--creator", "anna", *file]).exit_code == 0
    assert run.invoke(app, ["keys", "issue", "app", "finance", "--member", "m-1", *file]).exit_code == 0
    for site in ("Anna.Example", "b\u00fccher.example:8443"):
        assert run.invoke(app, ["keys", "issue", site, "dashboard", "--site", site, *file]).exit_code == 0
    for wrong in (
        ["--creator", "anna", "--member", "m-1"], ["--member", "m-1"], ["--creator", "a b"], ["--creator", "a" * 65],
        ["--creator", "anna", "--site", "a.example"], ["--site", "https://a.example"], ["--site", "a.example/x"],
        ["--site", "a@b.example"], ["--site", "a b"], ["--site", "[::"],
    ):  # fmt: skip
        assert run.invoke(app, ["keys", "issue", "x", "dashboard", *wrong, *file]).exit_code == 1
    listed = run.invoke(app, ["keys", "list", *file]).output
    assert listed == (
        "dashboard  embed  only creator anna\nfinance    app  only member m-1\n"
        "dashboard  Anna.Example  only site anna.example\n"
        "dashboard  b\u00fccher.example:8443  only site xn--bcher-kva.example:8443\n"
    )
