"""Sessions of the pages: never the key or the token, ended by signing out, by time, and with what they stand for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from ingest.runtime.tokens import issue, keygen
from ingest.runtime.watched_file import FileError
from tests.api.conftest import NOON_MS, settings_for
from tests.support.serving import Answer, ask, serving
from warehouse import keys
from warehouse.api.app import create_app
from warehouse.api.sessions import Kind, Sessions, read_secret
from warehouse.storage.client import Warehouse

HOUR_MS = 3_600_000


class Desk:
    """Signs sessions by a clock that the test sets."""

    def __init__(self, secret: bytes = b"s" * 32) -> None:
        self.now_ms = NOON_MS
        self.sessions = Sessions(secret, clock=lambda: self.now_ms, monotonic=lambda: 0.0, valid_max_s=3600)

    def sign(self, kind: Kind = Kind.KEY) -> str:
        return self.sessions.sign(kind, "f", "abc", self.now_ms + HOUR_MS)


def test_session_is_read_by_every_process_that_has_the_secret_and_by_no_other() -> None:
    text = Desk().sign()
    found = Desk().sessions.read(Kind.KEY, text)
    assert found is not None
    assert (found.subject, found.proof) == ("f", "abc")
    assert Desk(b"t" * 32).sessions.read(Kind.KEY, text) is None


def test_session_of_one_kind_is_none_of_another() -> None:
    desk = Desk()
    for kind in Kind:
        assert [other for other in Kind if desk.sessions.read(other, desk.sign(kind))] == [kind]


def test_session_is_over_by_the_services_clock() -> None:
    desk = Desk()
    text = desk.sign()
    desk.now_ms += HOUR_MS - 1
    assert desk.sessions.read(Kind.KEY, text)
    desk.now_ms += 1
    assert desk.sessions.read(Kind.KEY, text) is None


def test_session_that_was_ended_is_over_and_others_are_not() -> None:
    desk = Desk()
    ended, other = desk.sign(), desk.sign()
    found = desk.sessions.read(Kind.KEY, ended)
    assert found is not None
    desk.sessions.end(found)
    assert desk.sessions.read(Kind.KEY, ended) is None
    assert desk.sessions.read(Kind.KEY, other)


def altered(text: str, **claims: object) -> str:
    head, body, signature = text.split(".")
    known = json.loads(base64.urlsafe_b64decode(body + "=="))
    made = base64.urlsafe_b64encode(json.dumps({**known, **claims}).encode()).decode().rstrip("=")
    return f"{head}.{made}.{signature}"


def unsigned(text: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return f"{head}.{text.split('.')[1]}."


def test_session_that_was_made_up_is_none() -> None:
    desk = Desk()
    text = desk.sign()
    made_up = ["", "x", "..", "ü", "a" * 5000, altered(text, sub="root"), altered(text, exp=1e300), unsigned(text)]
    assert [one for one in made_up if desk.sessions.read(Kind.KEY, one)] == []


def test_secret_that_is_too_short_or_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        read_secret(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"short\n")
    with pytest.raises(FileError, match="at least 32 bytes"):
        read_secret(tmp_path / "secret")
    assert read_secret(None) != read_secret(None)


@dataclass
class House:
    """Two processes of the API with one secret, one key and members."""

    here: str
    there: str
    secret: str
    key_file: Path
    token_keys: Path

    def log_in(self, address: str = "/months") -> Answer:
        body = urlencode({"key": self.secret, "next": address}).encode()
        return ask(f"{self.here}/login", method="POST", body=body, follow=False)

    def sign_in(self, token: str) -> Answer:
        body = urlencode({"token": token}).encode()
        return ask(f"{self.here}/me", method="POST", body=body, follow=False)

    def token(self, *, valid_s: int = 600) -> str:
        return issue(self.token_keys, "m-1", audience="flattr", now_ms=NOON_MS, valid_s=valid_s)


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def status(url: str, cookie: str, **headers: str) -> int:
    return ask(url, headers={"Cookie": cookie, **headers}, follow=False).status


@pytest.fixture
def house(warehouse: Warehouse, tmp_path: Path) -> Iterator[House]:
    secret, key = keys.issue("f", keys.Role.FINANCE)
    keys.save(tmp_path / "keys.json", [key])
    keygen(tmp_path / "tokens.json", algorithm="HS256", kid="first")
    (tmp_path / "secret").write_bytes(b"s" * 40)
    told = {
        "api_keys": tmp_path / "keys.json",
        "token_keys": tmp_path / "tokens.json",
        "api_session_secret": tmp_path / "secret",
    }
    with (
        serving(create_app(settings_for(warehouse, **told))) as here,
        serving(create_app(settings_for(warehouse, **told))) as there,
    ):
        yield House(here, there, secret, tmp_path / "keys.json", tmp_path / "tokens.json")


def test_cookie_holds_neither_key_nor_token_and_opens_the_pages_of_every_process(house: House) -> None:
    answer = house.log_in()
    assert house.secret not in str(answer.headers)
    flags = answer.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=strict" in flags
    assert [status(f"{url}/months", cookie_of(answer)) for url in (house.here, house.there)] == [200, 200]
    signed_in = house.sign_in(house.token())
    assert house.token() not in str(signed_in.headers)
    assert "httponly" in signed_in.headers["set-cookie"].lower()
    assert [status(f"{url}/me", cookie_of(signed_in)) for url in (house.here, house.there)] == [200, 200]


def test_signing_out_removes_the_cookie_and_ends_the_session(house: House) -> None:
    cookie = cookie_of(house.log_in())
    assert b'action="/logout"' in ask(f"{house.here}/months", headers={"Cookie": cookie}).body
    answer = ask(f"{house.here}/logout", method="POST", body=b"", headers={"Cookie": cookie}, follow=False)
    assert answer.status == 303
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert status(f"{house.here}/months", cookie) == 303
    assert status(f"{house.here}/logout", cookie) == 405


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_form_of_another_site_signs_nobody_in_or_out(house: House, site: str) -> None:
    foreign = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    body = urlencode({"key": house.secret, "next": "/months"}).encode()
    answer = ask(f"{house.here}/login", method="POST", body=body, headers=foreign, follow=False)
    assert (answer.status, "set-cookie" in answer.headers) == (403, False)
    # The browser holds the cookies back, and would yet obey an answer that deletes them.
    for cookies in ({}, {"Cookie": cookie_of(house.log_in())}):
        answer = ask(f"{house.here}/logout", method="POST", body=b"", headers={**foreign, **cookies}, follow=False)
        assert (answer.status, "set-cookie" in answer.headers) == (303, False)
        assert all(status(f"{house.here}/months", cookie) == 200 for cookie in cookies.values())


def test_revoked_key_ends_its_sessions_everywhere_and_another_key_of_its_name_does_not_revive_them(
    house: House,
) -> None:
    cookie = cookie_of(house.log_in())
    keys.save(house.key_file, [keys.issue("f", keys.Role.FINANCE)[1]])
    assert [status(f"{url}/months", cookie) for url in (house.here, house.there)] == [303, 303]


def test_members_session_ends_with_the_token_and_with_its_key(house: House) -> None:
    flags = house.sign_in(house.token(valid_s=100)).headers["set-cookie"].lower()
    assert 60 < int(re.findall(r"max-age=(\d+)", flags)[0]) <= 100
    cookie = cookie_of(house.sign_in(house.token()))
    assert status(f"{house.here}/me", cookie) == 200
    house.token_keys.unlink()
    keygen(house.token_keys, algorithm="HS256", kid="second")
    while status(f"{house.here}/me", cookie) == 200:
        pass  # the file is looked at once a second


def test_members_session_opens_the_members_own_data_and_nothing_else(house: House) -> None:
    member, key = cookie_of(house.sign_in(house.token())), cookie_of(house.log_in())
    for path in ("/v1/me/export", "/v1/me/flattrs", "/me", "/me/flattrs"):
        assert status(house.here + path, member) == 200
        assert status(house.here + path, key) == 401
        # One kind of session under the other's name is nothing.
        assert status(house.here + path, key.replace("flattr_session", "flattr_member")) == 401
    assert status(f"{house.here}/v1/members/m-1/counts", member) == 401
    assert status(f"{house.here}/v1/members/m-1/counts", member.replace("flattr_member", "flattr_session")) == 401
    assert status(f"{house.here}/v1/members/m-1/counts", key) == 200


def test_token_that_is_none_is_told_on_the_form(house: House) -> None:
    for token, why in (("", "not one that we issued"), ("x" * 5000, "not one that we issued"), ("flk_x", "issued")):
        answer = house.sign_in(token)
        assert (answer.status, why in answer.body.decode()) == (401, True)
        assert "set-cookie" not in answer.headers
    assert house.sign_in("x" * 20_000).status == 413
    expired = issue(house.token_keys, "m-1", audience="flattr", now_ms=NOON_MS - HOUR_MS, valid_s=60)
    assert "expired" in house.sign_in(expired).body.decode()


def test_page_of_a_member_names_the_member_and_offers_the_way_out(house: House) -> None:
    page = ask(f"{house.here}/me", headers={"Cookie": cookie_of(house.sign_in(house.token()))})
    html = page.body.decode()
    assert page.headers["cache-control"] == "no-store"
    assert "m-1" in html
    assert 'action="/logout"' in html
    assert "Press the Flattr button" in html
    assert ask(f"{house.here}/me").status == 401
    for address in re.findall(r'href="(/(?:v1/)?me[^"]*)"', html):
        assert status(house.here + address.replace("&amp;", "&"), cookie_of(house.sign_in(house.token()))) == 200
