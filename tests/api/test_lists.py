from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.api.conftest import settings_for
from tests.api.rows import put_creator_counts, put_flattr, put_member_counts, put_thing_counts, put_things
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.storage.client import Warehouse

ONE, TWO, THREE = (digit * 32 for digit in "123")


def pages(url: str, field: str) -> list[list[dict[str, Any]]]:
    found, following = [], ""
    while True:
        body = ask(url + following).json
        found.append(body[field])
        if body["next"] is None:
            return found
        following = f"&cursor={body['next']}"


def test_top_creators_come_most_first_then_by_name(warehouse: Warehouse, api: str) -> None:
    put_creator_counts(
        warehouse,
        [(202611, "bob", 0, 2, 1), (202611, "bob", 1, 3, 1), (202611, "anna", 0, 5, 1), (202611, "cleo", 0, 9, 1),
         (202611, "gone", 0, 0, 2), (202610, "old", 0, 99, 1)],
    )  # fmt: skip
    body = ask(f"{api}/v1/top/creators?month=2026-11").json
    assert [(line["creator_id"], line["flattrs"]) for line in body["creators"]] == [
        ("cleo", 9),
        ("anna", 5),
        ("bob", 5),
    ]
    assert body["next"] is None


def test_pages_hold_every_creator_once_though_many_have_the_same_count(warehouse: Warehouse, api: str) -> None:
    put_creator_counts(warehouse, [(202611, f"c{n:02}", 0, 1 + n % 3, 1) for n in range(25)])
    found = pages(f"{api}/v1/top/creators?limit=4", "creators")
    lines = [(-line["flattrs"], line["creator_id"]) for page in found for line in page]
    assert len(lines) == 25
    assert all(before < after for before, after in pairwise(lines))
    assert [len(page) for page in found] == [4] * 6 + [1]


def test_top_things_name_their_creator_and_address(warehouse: Warehouse, api: str) -> None:
    put_thing_counts(warehouse, [(202611, "anna", ONE, 0, 4, 1), (202611, "bob", TWO, 1, 7, 1)])
    put_things(warehouse, [(ONE, "anna", "https://anna.example/1")])
    lines = ask(f"{api}/v1/top/things").json["things"]
    assert lines == [
        {"thing_id": TWO, "flattrs": 7, "creator_id": "", "thing": ""},
        {"thing_id": ONE, "flattrs": 4, "creator_id": "anna", "thing": "https://anna.example/1"},
    ]


def test_pages_of_things_hold_each_once(warehouse: Warehouse, api: str) -> None:
    put_thing_counts(warehouse, [(202611, "anna", f"{n:032x}", 0, 1 + n % 2, 1) for n in range(9)])
    found = [line["thing_id"] for page in pages(f"{api}/v1/top/things?limit=2", "things") for line in page]
    assert sorted(found) == [f"{n:032x}" for n in range(9)]
    assert len(found) == 9


def test_creators_things_are_those_that_still_stand(warehouse: Warehouse, api: str) -> None:
    for place, (member, thing) in enumerate([("m-1", ONE), ("m-2", ONE), ("m-1", TWO), ("m-1", THREE)]):
        put_flattr(warehouse, member=member, thing=thing, click_id=None, position=place)
    put_flattr(warehouse, member="m-1", thing=TWO, click_id=None, position=9, undo=True)
    put_flattr(warehouse, member="m-1", creator="bob", thing="4" * 32, click_id=None, position=10)
    lines = ask(f"{api}/v1/creators/anna/things").json["things"]
    assert [(line["thing_id"], line["flattrs"]) for line in lines] == [(ONE, 2), (THREE, 1)]


def test_members_creators_are_paged_too(warehouse: Warehouse, api: str) -> None:
    put_member_counts(warehouse, [(202611, "m-1", f"c{n}", n, n + 1) for n in range(6)] + [(202611, "m-2", "c9", 9, 1)])
    found = [
        line["creator_id"] for page in pages(f"{api}/v1/members/m-1/creators?limit=2", "creators") for line in page
    ]
    assert found == ["c5", "c4", "c3", "c2", "c1"]


@pytest.mark.parametrize("cursor", ["x", "!!", "eyJhIjoxfQ", "WzEsMl0", "é", "AA=="])
def test_cursor_that_is_none_is_refused(idle_api: str, cursor: str) -> None:
    from urllib.parse import quote

    answer = ask(f"{idle_api}/v1/top/creators?cursor={quote(cursor)}")
    assert (answer.status, answer.json["reason"]) == (422, "cursor_malformed")


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_limit_has_limits(idle_api: str, limit: str) -> None:
    assert ask(f"{idle_api}/v1/top/creators?limit={limit}").json["reason"] == "parameter_invalid"


def test_list_is_asked_once_within_its_time(warehouse: Warehouse) -> None:
    with serving(create_app(settings_for(warehouse, api_lists_ttl_ms=60_000))) as url:
        for _ in range(5):
            ask(f"{url}/v1/top/creators")
        ask(f"{url}/v1/top/creators?limit=3")
        assert 'query_seconds_count{query="top_creators"} 2.0' in ask(f"{url}/metrics").body.decode()
