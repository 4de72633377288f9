"""What the operator may make public: counts of creators and things and their pages, never members, never money."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from uuid import UUID

import pytest

from ingest.contract.thing import thing_id
from ingest.runtime.tokens import keygen
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import (
    counted_until,
    put_creator_counts,
    put_flattr,
    put_progress,
    put_thing_counts,
    put_things,
)
from tests.security.test_authorisation import ROWS
from tests.support.serving import Listener, ask, serving
from warehouse import keys
from warehouse.api.app import create_app
from warehouse.storage.client import Warehouse

SONG = thing_id("anna", "https://anna.example/song")
HOSTILE = ["=1+1", "../x", "a/b?c#d", "<script>alert(1)</script>"[:64], "%2e%2e", "a" * 64, "&month=2020-01", ".."]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def public(warehouse: Warehouse, file: Path) -> Iterator[str]:
    keys.save(file, [])
    keygen(file.with_name("tokens.json"), algorithm="HS256", kid="first")
    told = {"api_keys": file, "token_keys": file.with_name("tokens.json"), "api_public": True}
    with serving(create_app(settings_for(warehouse, **told))) as url:
        yield url


def put_song(warehouse: Warehouse) -> None:
    put_things(warehouse, [(SONG, "anna", "https://anna.example/song")])
    put_creator_counts(warehouse, [(202611, "anna", 0, 2, 9), (202609, "anna", 0, 5, 9)])
    put_thing_counts(warehouse, [(202611, "anna", SONG, 0, 2, 9), (202609, "anna", SONG, 0, 5, 9)])
    for number in (1, 2):
        put_flattr(
            warehouse, member=f"secret-{number}", thing=SONG, click_id=UUID(int=number), position=number,
            clicked_at_ms=NOON_MS - 1000,
        )  # fmt: skip
    put_progress(warehouse, 0, counted_until(9), NOON_MS)


#: What `FLATTR_API_PUBLIC` opens, besides what is open anyway.
OPENED = (
    *(f"/v1/creators/anna/{one}" for one in ("counts", "things", "series", "months", "live", "live-token")),
    *(f"/v1/things/{'0' * 32}/{one}" for one in ("counts", "series", "months")),
    *("/v1/creators?prefix=an", "/v1/top/creators", "/v1/top/things"),
    *("/creators", "/creators/anna", "/things", f"/things/{'0' * 32}"),
)


def test_public_opens_counts_and_nothing_of_members_or_money(public: str) -> None:
    for method, path, needed in ROWS:
        if method == "GET":
            answer = ask(public + path, method="HEAD", follow=False)
            refused = answer.status in (401, 403) or answer.headers.get("location", "").startswith("/login")
            assert refused is not (needed == "public" or path in OPENED), (path, answer.status)


def test_counts_of_creators_and_things_need_no_key_and_any_page_may_read_them(
    warehouse: Warehouse, public: str
) -> None:
    put_song(warehouse)
    for path in (f"/v1/things/{SONG}/counts", "/v1/creators/anna/counts"):
        answer = ask(public + path)
        assert (answer.json["flattrs"], answer.headers["access-control-allow-origin"]) == (2, "*")
    months = ask(f"{public}/v1/creators/anna/months").json
    assert (months["flattrs"], months["months"]) == (
        7, [{"month": "2026-09", "flattrs": 5}, {"month": "2026-11", "flattrs": 2}],
    )  # fmt: skip
    assert ask(f"{public}/v1/things/{SONG}/months").json["flattrs"] == 7


def test_public_pages_show_counts_and_neither_members_nor_money(warehouse: Warehouse, public: str) -> None:
    put_song(warehouse)
    for path in (
        "/creators/anna",
        f"/things/{SONG}",
        "/creators",
        "/things",
        "/creators?month=2026-09",
        "/creators?q=an",
    ):
        page = ask(public + path)
        html = page.body.decode()
        assert page.status == 200
        assert "anna" in html
        assert "secret-" not in html
        assert "€" not in html
        assert "Sign out" not in html


def test_every_link_of_the_public_pages_leads_somewhere_without_a_key(warehouse: Warehouse, public: str) -> None:
    put_song(warehouse)
    seen, waiting = set[str](), ["/"]
    while waiting and len(seen) < 60:
        path = waiting.pop()
        seen.add(path)
        page = ask(public + path)
        if path not in ("/months", "/verify"):  # they are finance's and the operator's, and say so
            assert page.status == 200, path
            assert b'name="key"' not in page.body, path
            links = re.findall(r'href="([^"#]+)', page.body.decode())
            base = path.partition("?")[0]
            found = {base + link if link.startswith("?") else link for link in map(unescape, links)}
            waiting += sorted(link for link in found - seen - set(waiting) if link.startswith("/") and link[:2] != "//")
    assert {"/creators/anna", f"/things/{SONG}", "/creators", "/things", "/creators?month=2026-10"} <= seen


def test_names_are_no_links_where_the_reader_could_not_follow_them(warehouse: Warehouse, file: Path) -> None:
    put_song(warehouse)
    keys.save(file, [])
    with serving(create_app(settings_for(warehouse, api_keys=file))) as locked:
        html = ask(f"{locked}/").body.decode()
    assert "anna" in html
    assert 'href="/creators/anna"' not in html
    assert f'href="/things/{SONG}"' not in html


def test_ids_of_every_kind_lead_to_their_own_page(warehouse: Warehouse, public: str) -> None:
    put_creator_counts(warehouse, [(202611, creator, 0, 10 - at, 9) for at, creator in enumerate(HOSTILE)])
    html = ask(f"{public}/creators").body.decode()
    assert "<script>alert" not in html
    links = [unescape(link) for link in re.findall(r'class="name"><a href="([^"]+)"', html)]
    assert len(links) == len(HOSTILE)
    for link, creator in zip(links, HOSTILE, strict=True):
        page = unescape(ask(public + link).body.decode())
        assert f"<bdi>{creator}</bdi>" in page
        assert "../" not in link
        assert "month=2026-11" in link


def test_search_finds_what_begins_so_and_pages_end(warehouse: Warehouse, public: str) -> None:
    names = [f"an{number:03}" for number in range(120)] + ["bob", "~", "AN1"]
    put_creator_counts(warehouse, [(202611, name, part, 1, 9) for name in names for part in (0, 3)])
    found, cursor = list[str](), ""
    while True:
        body = ask(f"{public}/v1/creators?prefix=an&limit=50{cursor}").json
        found += [line["creator_id"] for line in body["creators"]]
        if body["next"] is None:
            break
        cursor = f"&cursor={body['next']}"
    assert found == names[:120]
    assert [line["creator_id"] for line in ask(f"{public}/v1/creators?prefix=~").json["creators"]] == ["~"]
    assert ask(f"{public}/v1/creators?prefix=an&month=2026-09").json["creators"] == []
    assert ask(f"{public}/v1/creators").json["reason"] == "parameter_invalid"
    assert "an049" in ask(f"{public}/creators?q=an").body.decode()
    assert "No creator with flattrs" in ask(f"{public}/creators?q=%E2%80%AE%00").body.decode()


def test_lists_go_on_behind_the_first_page(warehouse: Warehouse, public: str) -> None:
    put_creator_counts(warehouse, [(202611, f"c{number:03}", 0, 1000 - number, 9) for number in range(110)])
    seen, path = list[str](), "/creators"
    while path:
        html = ask(public + path).body.decode()
        seen += re.findall(r"<bdi>(c\d{3})</bdi>", html)
        following = re.search(r'href="(\?[^"]+)" rel="next">Next page', html)
        path = f"/creators{unescape(following[1])}" if following else ""
    assert seen == [f"c{number:03}" for number in range(110)]


def test_stream_of_a_public_creator_needs_no_key(warehouse: Warehouse, public: str) -> None:
    put_song(warehouse)
    with Listener(f"{public}/v1/creators/anna/live", headers={"Origin": "https://site.example"}) as listener:
        assert listener.answer.headers["Access-Control-Allow-Origin"] == "*"
        assert listener.next()[2]["flattrs"] == 2


def test_thing_that_nobody_flattred_has_no_page(public: str) -> None:
    assert ask(f"{public}/things/{'0' * 32}").status == 404
