"""Who may change a subscription on the member's page, with what, and what the page says when it could not."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from deploy.stack.embedded import free_port
from ingest.runtime.tokens import issue, keygen
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import put_things
from tests.api.test_me import SONG, put_order
from tests.support.serving import Answer, ask, serving
from warehouse.api.app import create_app
from warehouse.api.subscription_change import clicks
from warehouse.storage.client import Warehouse
from warehouse.subscriptions.standing import Subscription


@dataclass
class Desk:
    """The API before an ingest that nobody answers for, and the cookies of a member who signed in."""

    url: str
    tokens: Path

    def token(self, member: str = "m-1") -> str:
        return issue(self.tokens, member, audience="flattr", now_ms=NOON_MS, valid_s=600)

    def sign_in(self, member: str = "m-1") -> dict[str, str]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        connection.request("POST", "/me", urlencode({"token": self.token(member)}))
        answer = connection.getresponse()
        pairs = [text.partition(";")[0].partition("=") for text in answer.headers.get_all("set-cookie") or []]
        connection.close()
        return {name: value for name, _, value in pairs}

    def change(
        self, cookies: dict[str, str], thing: str = SONG, last: str = "end", *, cursor: str = "", **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = urlencode({"thing": thing, "last": last, "stands": "1", "cursor": cursor}).encode()
        return ask(
            f"{self.url}/me/subscriptions", method="POST", body=body, headers={**jar(cookies), **named}, follow=False
        )


def jar(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


@pytest.fixture
def desk(warehouse: Warehouse, tmp_path: Path) -> Iterator[Desk]:
    keygen(tmp_path / "tokens.json", algorithm="EdDSA", kid="first")
    put_things(warehouse, [(SONG, "anna", "https://rude@anna.example/song?utm_source=x")])
    put_order(warehouse, 1, NOON_MS - 9000)
    told = {"token_keys": tmp_path / "tokens.json", "api_ingest": f"http://127.0.0.1:{free_port()}"}
    with serving(create_app(settings_for(warehouse, **told))) as url:
        yield Desk(url, tmp_path / "tokens.json")


def said(answer: Answer) -> str:
    assert answer.status == 303
    return answer.headers["location"].partition("said=")[2].partition("#")[0].partition("&")[0]


def test_change_that_nobody_answers_is_told_as_such(desk: Desk) -> None:
    cookies = desk.sign_in()
    answer = desk.change(cookies)
    assert said(answer) == "unanswered"
    page = ask(desk.url + answer.headers["location"].partition("#")[0], headers=jar(cookies)).body.decode()
    assert "nobody answered" in page
    assert 'name="last"' in page
    # By the address that everybody sees, not as the first to click it wrote it.
    assert "rude" not in page


def test_cookie_does_not_show_the_token_and_is_sent_to_the_members_page_alone(desk: Desk) -> None:
    body = urlencode({"token": desk.token()}).encode()
    answer = ask(f"{desk.url}/me", method="POST", body=body, follow=False)
    assert desk.token() not in str(answer.headers)
    flags = answer.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("flattr_member_token=", "path=/me", "httponly", "samesite=lax"))


@pytest.mark.parametrize("last", ["end", "", "2027-03"])
def test_only_the_member_who_signed_in_here_changes_what_is_theirs(desk: Desk, last: str) -> None:
    mine, other = desk.sign_in(), desk.sign_in("m-2")
    assert desk.change({}, last=last).status == 401
    assert desk.change({"flattr_member_token": mine["flattr_member_token"]}, last=last).status == 401
    for cookies, thing, headers in (
        ({"flattr_member": mine["flattr_member"]}, SONG, {}),
        # One session with the token of another.
        ({**mine, "flattr_member_token": other["flattr_member_token"]}, SONG, {}),
        ({**mine, "flattr_member_token": desk.sign_in()["flattr_member_token"]}, SONG, {}),
        ({**mine, "flattr_member_token": "x"}, SONG, {}),
        ({**mine, "flattr_member_token": desk.token()}, SONG, {}),
        # What is no subscription of the member's.
        (other, SONG, {}),
        (mine, "f" * 32, {}),
        (mine, "' OR 1=1", {}),
        # A page of another host.
        (mine, SONG, {"Sec-Fetch-Site": "cross-site"}),
        (mine, SONG, {"Sec-Fetch-Site": "same-site"}),
    ):
        assert said(desk.change(cookies, thing, last, **headers)) == "refused"
    assert said(desk.change(mine, last=last, Sec_Fetch_Site="same-origin")) == "unanswered"


def test_page_without_the_token_lists_and_changes_nothing(desk: Desk) -> None:
    session = {"flattr_member": desk.sign_in()["flattr_member"]}
    page = ask(f"{desk.url}/me", headers=jar(session)).body.decode()
    assert "anna.example/<wbr>song" in page
    assert "every month" in page
    assert 'name="last"' not in page


def test_signing_out_takes_the_token_away(desk: Desk) -> None:
    cookies = desk.sign_in()
    connection = http.client.HTTPConnection(urlsplit(desk.url).netloc, timeout=10)
    connection.request("POST", "/logout", "", jar(cookies))
    removed = connection.getresponse().headers.get_all("set-cookie") or []
    connection.close()
    assert any(one.startswith("flattr_member_token=") and "Max-Age=0" in one and "Path=/me" in one for one in removed)
    assert desk.change(cookies).status == 401


def test_clicks_of_a_change_leave_this_month_as_it_is_shown() -> None:
    one = Subscription("m-1", "anna", SONG, "https://anna.example/song", "", 0, 1)
    named = b'{"creator_id":"anna","thing":"https://anna.example/song","action":'
    assert clicks(one, "end", stands=False) == b"[" + named + b'"unsubscribe"}]'
    assert clicks(one, "", stands=True) == b"[" + named + b'"subscribe"}]'
    assert clicks(one, "2027-03", stands=False) == (
        b"[" + named + b'"subscribe","until":"2027-03"},' + named + b'"undo"}]'
    )


def test_page_leads_to_all_subscriptions_and_a_change_comes_back_to_where_it_was(
    warehouse: Warehouse, desk: Desk
) -> None:
    cookies = desk.sign_in()

    def page(query: str = "") -> str:
        return ask(f"{desk.url}/me{query}", headers=jar(cookies)).body.decode()

    assert "More subscriptions" not in page()
    many = range(50)
    warehouse.insert(
        "subscription_orders",
        {
            "member_id": ["m-1" for _ in many],
            "creator_id": ["bob" for _ in many],
            "thing_id": [bytes([number]) * 16 for number in many],
            "click_id": [bytes([number]) * 16 for number in many],
            "ends": [0 for _ in many],
            "version": [(NOON_MS - 8000) << 20 for _ in many],
            "position": list(many),
            "until": [0 for _ in many],
            "site_id": ["" for _ in many],
        },
    )
    first = page()
    assert first.count('name="last"') == 50
    assert "The first ones" not in first
    (cursor,) = re.findall(r'href="\?cursor=([^"]+)#subscriptions"', first)
    second = page(f"?cursor={cursor}")
    assert second.count('name="last"') == 1
    assert "More subscriptions" not in second
    assert "The first ones" in second
    things = [thing for text in (first, second) for thing in re.findall(r'name="thing" value="([^"]+)"', text)]
    assert sorted(things) == sorted({SONG, *(bytes([number]).hex() * 16 for number in many)})
    changed = desk.change(cookies, things[-1], cursor=cursor)
    assert changed.headers["location"] == f"/me?said=unanswered&cursor={cursor}#subscriptions"
    assert said(desk.change(cookies, things[0], cursor=cursor)) == "refused"
    assert ask(f"{desk.url}/me?cursor=x", headers=jar(cookies)).status == 422
