"""The member's own door: what the token's member did, and nothing about anybody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ingest.contract.thing import thing_id
from ingest.runtime.tokens import issue, keygen
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import counted_until, put_flattr, put_progress, put_things
from tests.payout.build import clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.support.serving import Answer, ask, serving
from warehouse.api.app import create_app
from warehouse.payout.close.close import close_month
from warehouse.storage.client import Warehouse

SONG, POST = thing_id("anna", "https://anna.example/song"), thing_id("bob", "7")
DAY_MS = 86_400_000
RULES = closing()


@dataclass
class Door:
    """The API, and tokens of its members."""

    url: str
    keys: Path

    def token(self, member: str = "m-1", *, valid_s: int = 600, now_ms: int = NOON_MS, **bound: str) -> str:
        return issue(self.keys, member, audience="flattr", now_ms=now_ms, valid_s=valid_s, bound=bound or None)

    def get(self, path: str, member: str = "m-1") -> Answer:
        return ask(f"{self.url}/v1/me{path}", headers={"Authorization": f"Bearer {self.token(member)}"})


@pytest.fixture
def token_keys(tmp_path: Path) -> Path:
    keygen(tmp_path / "tokens.json", algorithm="EdDSA", kid="first")
    return tmp_path / "tokens.json"


@pytest.fixture
def door(warehouse: Warehouse, token_keys: Path) -> Iterator[Door]:
    with serving(create_app(settings_for(warehouse, token_keys=token_keys))) as url:
        yield Door(url, token_keys)


def click(number: int) -> UUID:
    return UUID(int=number + 1)


def put_two(warehouse: Warehouse) -> None:
    """Anna's song, flattred by m-1 and not by m-2; Bob's post, which m-1 took back and m-2 did not."""
    put_things(warehouse, [(SONG, "anna", "https://anna.example/song"), (POST, "bob", "7")])
    put_flattr(warehouse, thing=SONG, creator="anna", click_id=click(1), position=1, clicked_at_ms=NOON_MS - 1000)
    put_flattr(warehouse, thing=POST, creator="bob", click_id=click(2), position=2, clicked_at_ms=NOON_MS - 500)
    put_flattr(warehouse, thing=POST, creator="bob", click_id=None, position=3, undo=True)
    put_flattr(warehouse, thing=POST, creator="bob", click_id=click(3), position=4, member="m-2")


def test_member_sees_what_stands_of_things_of_several_creators(warehouse: Warehouse, door: Door) -> None:
    put_two(warehouse)
    put_progress(warehouse, 0, counted_until(9), NOON_MS - 2000)
    query = "?creator=bob&thing=7&creator=anna&thing=https://anna.example/song&creator=bob&thing=7"
    answer = door.get(f"/flattrs{query}")
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json
    assert (body["month"], body["member_id"]) == ("2026-11", "m-1")
    assert body["things"] == [POST, SONG, POST]
    assert body["flattred"] == {POST: False, SONG: True}
    assert body["subscribed"] == {POST: False, SONG: False}
    assert body["lag"]["seconds"] >= 2
    assert door.get(f"/flattrs{query}", "m-2").json["flattred"] == {POST: True, SONG: False}


def test_things_by_id_are_found_too_and_unknown_ones_and_other_months_are_not_flattred(
    warehouse: Warehouse, door: Door
) -> None:
    put_two(warehouse)
    unknown = "f" * 32
    assert door.get(f"/flattrs?things={SONG},{unknown}").json["flattred"] == {SONG: True, unknown: False}
    for month in ("2026-10", "2020-01"):
        assert door.get(f"/flattrs?things={SONG}&month={month}").json["flattred"] == {SONG: False}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("things=x", "parameter_invalid"),
        ("creator=anna", "parameter_invalid"),
        ("thing=7", "parameter_invalid"),
        ("cursor=x", "cursor_malformed"),
        ("cursor=WzIwMjYxMSwxLCJ4Il0", "cursor_malformed"),
        ("month=2026-13", "month_malformed"),
        ("limit=0", "parameter_invalid"),
        ("things=" + ",".join(f"{number:032x}" for number in range(101)), "too_many"),
    ],
)
def test_request_that_means_nothing_is_refused(door: Door, query: str, reason: str) -> None:
    answer = door.get(f"/flattrs?{query}")
    assert (answer.status, answer.json["reason"]) == (422, reason)


def test_token_that_is_none_is_refused_as_ingest_does_and_a_page_may_read_why(door: Door) -> None:
    def refusal(token: str | None) -> tuple[int, str]:
        headers = {"Origin": "https://site.example"} | ({"Authorization": f"Bearer {token}"} if token else {})
        answer = ask(f"{door.url}/v1/me/flattrs?things={SONG}", headers=headers)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.json["type"] == f"urn:flattr:reason:{answer.json['reason']}"
        return answer.status, answer.json["reason"]

    assert refusal(None) == (401, "token_missing")
    assert refusal("x.y.z") == (401, "token_invalid")
    assert refusal("flk_" + "a" * 43) == (401, "token_invalid")
    assert refusal("ü" * 9) == (401, "token_invalid")
    assert refusal(door.token(valid_s=1, now_ms=NOON_MS - 60_000)) == (401, "token_expired")
    assert refusal(door.token(creator="anna", thing="7", site="s")) == (403, "token_purpose")


def test_preflight_of_a_page_that_sends_a_token_is_answered(door: Door) -> None:
    headers = {
        "Origin": "https://site.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = ask(f"{door.url}/v1/me/flattrs", method="OPTIONS", headers=headers)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in answer.headers


def test_api_without_token_keys_answers_no_member(idle_api: str) -> None:
    answer = ask(f"{idle_api}/v1/me/flattrs", headers={"Authorization": "Bearer x"})
    assert (answer.status, answer.json["reason"]) == (404, "members_unserved")


def test_key_of_the_tokens_that_is_gone_opens_nothing_any_more(door: Door) -> None:
    old = door.token()
    assert ask(f"{door.url}/v1/me/history", headers={"Authorization": f"Bearer {old}"}).status == 200
    door.keys.unlink()
    keygen(door.keys, algorithm="EdDSA", kid="second")
    while ask(f"{door.url}/v1/me/history", headers={"Authorization": f"Bearer {old}"}).status == 200:
        pass  # the file is looked at once a second
    assert door.get("/history").status == 200


def pages(door: Door, path: str, query: str = "") -> list[list[dict[str, Any]]]:
    found, cursor = [], ""
    while True:
        body = door.get(f"{path}?limit=3{query}{cursor}").json
        found.append(body["flattrs"])
        if body["next"] is None:
            return found
        cursor = f"&cursor={body['next']}"


def test_lists_are_newest_first_and_complete_by_cursor(warehouse: Warehouse, door: Door) -> None:
    things = [f"{number:032x}" for number in range(8)]
    put_things(warehouse, [(thing, "=1+1", f"https://a.example/{at}") for at, thing in enumerate(things)])
    for at, thing in enumerate(things):
        # Three of them at the same moment: the cursor tells them apart by thing.
        moment = NOON_MS - min(at, 5) * 1000
        put_flattr(warehouse, thing=thing, creator="=1+1", click_id=click(at), position=at + 1, clicked_at_ms=moment)
    put_flattr(
        warehouse, month=202609, thing=things[0], creator="=1+1", click_id=click(99), position=99,
        clicked_at_ms=NOON_MS - 60 * DAY_MS,
    )  # fmt: skip
    month = [line for page in pages(door, "/flattrs") for line in page]
    assert [line["thing"].rpartition("/")[2] for line in month] == ["0", "1", "2", "3", "4", "7", "6", "5"]
    assert month[0]["creator_id"] == "=1+1"
    ever = pages(door, "/history")
    assert [len(page) for page in ever] == [3, 3, 3, 0]
    assert [line for page in ever for line in page][:8] == month
    assert ever[2][2]["month"] == "2026-09"
    assert [len(page) for page in pages(door, "/history", "&month=2026-09")] == [1]
    assert door.get("/history", "m-2").json["flattrs"] == []


def test_export_has_everything_of_the_member_in_one_file(warehouse: Warehouse, door: Door) -> None:
    put_two(warehouse)
    answer = door.get("/export")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json
    assert body["member_id"] == "m-1"
    assert {(line["thing"], line["stands"]) for line in body["flattrs"]} == {
        ("https://anna.example/song", True), ("7", False),
    }  # fmt: skip
    assert "m-2" not in answer.body.decode()
    assert str(click(1)) in answer.body.decode()


def test_export_is_whole_over_many_pages(warehouse: Warehouse, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse.api.routes.me._EXPORT_PAGE", 2)
    for at in range(5):
        put_flattr(warehouse, thing=f"{at:032x}", creator=f"c{at}", click_id=click(at), position=at + 1)
        put_flattr(warehouse, month=202610, thing=f"{at:032x}", creator="c", click_id=click(9 + at), position=at + 9)
    lines = json.loads(door.get("/export").body)["flattrs"]
    assert [(line["month"], line["creator_id"]) for line in lines] == [
        *[("2026-10", "c")] * 5, *[("2026-11", f"c{at}") for at in range(5)],
    ]  # fmt: skip
    assert len({line["click_id"] for line in lines}) == 10


def closed_november(warehouse: Warehouse) -> None:
    state_month(warehouse, 202611, flattrs_of("m-1 ada 2\nm-1 bob 1\nm-2 bob 4"))
    pledge(warehouse, 202611, {"m-1": 2_000_000, "m-2": 3_000_000})
    close_month(warehouse, 202611, clock=clock_after(202611, RULES), log_ends=drained, settings=RULES)


def test_statement_is_the_members_own_and_stays_in_no_cache(warehouse: Warehouse, door: Door) -> None:
    closed_november(warehouse)
    newest, named = door.get("/statement"), door.get("/statement?month=2026-11")
    assert newest.body == named.body
    assert (named.json["member_id"], named.json["pledge_micro"]) == ("m-1", 2_000_000)
    # The same address is another member's statement, so nothing may say that it did not change.
    assert named.headers["cache-control"] == "no-store"
    assert "etag" not in named.headers
    assert door.get("/statement?month=2026-11", "m-2").json["pledge_micro"] == 3_000_000
    page = door.get("/statement?month=2026-11&form=html")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert door.get("/statement?month=2026-11&form=csv").body.startswith(b"member_id,creator_id")


def test_month_that_is_open_has_no_statement_and_a_stranger_to_a_month_no_line(
    warehouse: Warehouse, door: Door
) -> None:
    for path in ("/statement", "/statement?month=2026-11"):
        answer = door.get(path)
        assert (answer.status, answer.json["reason"]) == (404, "month_not_closed")
    closed_november(warehouse)
    answer = door.get("/statement", "m-3")
    assert (answer.status, answer.json["reason"]) == (404, "line_unknown")


def test_export_has_pledges_and_closed_months(warehouse: Warehouse, door: Door) -> None:
    closed_november(warehouse)
    body = door.get("/export").json
    assert body["pledges"] == [{"month": "2026-11", "amount_micro": 2_000_000, "currency": "EUR", "paid": True}]
    (month,) = body["closed_months"]
    assert (month["month"], month["pledge_micro"], month["flattrs"]) == ("2026-11", 2_000_000, 3)
    assert {share["creator_id"]: share["share_micro"] for share in month["shares"]} == {
        "ada": 1_200_000,
        "bob": 600_000,
    }


def test_split_if_the_month_ended_now_is_the_members_own(warehouse: Warehouse, token_keys: Path) -> None:
    state_month(warehouse, 202611, flattrs_of("m-1 ada 2\nm-1 bob 1"))
    pledge(warehouse, 202611, {"m-1": 2_000_000})
    with serving(create_app(settings_for(warehouse, token_keys=token_keys), RULES)) as url:
        answer = Door(url, token_keys).get("/provisional")
    assert answer.headers["cache-control"] == "no-store"
    assert {share["creator_id"]: share["share_micro"] for share in answer.json["shares"]} == {
        "ada": 1_200_000, "bob": 600_000,
    }  # fmt: skip


def put_order(  # noqa: PLR0913 - one keyword for each column that a test varies
    warehouse: Warehouse, number: int, at_ms: int, *, ends: bool = False, until: int = 0, thing: str = SONG
) -> None:
    """One click of m-1 that subscribes to Anna's song, or ends that."""
    warehouse.insert(
        "subscription_orders",
        {
            "member_id": ["m-1"],
            "creator_id": ["anna"],
            "thing_id": [bytes.fromhex(thing)],
            "click_id": [click(number).bytes],
            "ends": [int(ends)],
            "version": [at_ms << 20],
            "position": [number],
            "until": [until],
            "site_id": [""],
        },
    )


@pytest.mark.parametrize(
    ("orders", "stands"),
    [
        ([{}], True),
        ([{}, {"ends": True}], False),
        ([{"ends": True}, {}], True),
        ([{"until": 202611}], True),
        ([{"until": 202610}], False),
        ([{"until": 202610}, {}], True),
    ],
)
def test_member_sees_which_flattrs_are_repeated_every_month(
    warehouse: Warehouse, door: Door, orders: list[dict[str, Any]], *, stands: bool
) -> None:
    put_two(warehouse)
    put_progress(warehouse, 0, counted_until(9), NOON_MS - 2000)
    for number, order in enumerate(orders):
        put_order(warehouse, number, NOON_MS - 10_000 + number, **order)
    query = "/flattrs?creator=anna&thing=https://anna.example/song&creator=bob&thing=7"
    assert door.get(query).json["subscribed"] == {SONG: stands, POST: False}
    assert door.get(query, "m-2").json["subscribed"] == {SONG: False, POST: False}


def test_subscription_to_a_thing_that_moved_stands_at_its_new_address_until_the_newest_click_ends_it(
    warehouse: Warehouse, token_keys: Path, tmp_path: Path
) -> None:
    """Twice: the song was first on the label's site, then on Anna's, and is on another now."""
    label, now = "https://label.example/anna/song", "https://new.example/song"
    moved = {"https://label.example/anna": "https://new.example/", "https://anna.example/": "https://new.example/"}
    (tmp_path / "aliases.json").write_text(json.dumps(moved))
    first, third = thing_id("anna", label), thing_id("anna", now)
    put_two(warehouse)
    put_progress(warehouse, 0, counted_until(9), NOON_MS - 2000)
    told = settings_for(warehouse, token_keys=token_keys, ingest_aliases_file=tmp_path / "aliases.json")
    with serving(create_app(told)) as url:

        def subscribed(address: str, member: str = "m-1") -> bool:
            query = f"/flattrs?creator=anna&thing={address}&creator=bob&thing=7"
            answer = Door(url, token_keys).get(query, member).json
            assert answer["things"] == [third, POST]
            assert answer["subscribed"].keys() == answer["flattred"].keys() == {third, POST}
            assert answer["flattred"][third] is answer["subscribed"][POST] is False
            return bool(answer["subscribed"][third])

        assert not subscribed(now)
        for number, (at_ms, name, ends) in enumerate(
            [(0, first, False), (1, SONG, True), (2, SONG, False), (3, third, True), (4, third, False)]
        ):
            put_order(warehouse, number, NOON_MS - 9000 + at_ms, ends=ends, thing=name)
            addresses = (now, label, "https://anna.example/song")
            assert {subscribed(address) for address in addresses} == {not ends}, (number, name)
            assert not subscribed(now, "m-2")


def test_list_of_subscriptions_is_what_the_newest_click_says_and_the_members_own(
    warehouse: Warehouse, door: Door
) -> None:
    put_two(warehouse)
    assert door.get("/subscriptions").json["subscriptions"] == []
    put_order(warehouse, 1, NOON_MS - 9000, until=202611)
    (line,) = door.get("/subscriptions").json["subscriptions"]
    assert (line["creator_id"], line["thing"], line["until"]) == ("anna", "https://anna.example/song", "2026-11")
    assert door.get("/subscriptions", "m-2").json["subscriptions"] == []
    put_order(warehouse, 3, NOON_MS - 7000, ends=True)
    put_order(warehouse, 2, NOON_MS - 8000)
    assert door.get("/subscriptions").json["subscriptions"] == []
    put_order(warehouse, 4, NOON_MS - 6000)
    assert door.get("/export").json["subscriptions"][0]["until"] is None


def test_subscriptions_are_listed_page_by_page_and_each_once(warehouse: Warehouse, door: Door) -> None:
    ids = [f"{number:032x}" for number in (7, 1, 0xABCDEF, 0xF << 124, 5)]
    for number, thing in enumerate(ids):
        put_order(warehouse, number, NOON_MS - 9000, thing=thing)
    found, query = [], "/subscriptions?limit=2"
    while True:
        body = door.get(query).json
        found += [line["thing_id"] for line in body["subscriptions"]]
        assert body["more"] is (body["next"] is not None)
        if body["next"] is None:
            break
        query = f"/subscriptions?limit=2&cursor={body['next']}"
    assert found == sorted(ids)
    assert door.get("/subscriptions?cursor=WyJhIiwieCJd").status == 422
