"""Who may click: what a cookie counts for, what a pixel's token opens, and how failures are limited."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from deploy.stack.embedded import EmbeddedBroker
from ingest.admission.caller import read_sites
from ingest.contract.click import decode_block
from ingest.runtime.clock import system_clock
from ingest.runtime.watched_file import FileError
from tests.ingest.conftest import Ingest, make_topics, records, serving, settings_for
from tests.support.serving import Answer, ask

CLICK = {"creator_id": "bob", "thing": "https://example.org/a"}
BLOG = "https://blog.example.org"
SITES = {
    "k-blog": {"site_id": "blog", "origins": [BLOG]},
    "k-shop": {"site_id": "shop", "origins": ["https://shop.example.org"]},
}
NOTHING: Mapping[str, str] = {}
SCRIPT = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
BEACON = {**SCRIPT, "sec-fetch-mode": "no-cors"}
FORM = {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.fixture
def guarded(embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, tmp_path: Path) -> Iterator[Ingest]:
    """A service that knows two sites, and trusts one gateway and the proxy that all tests are."""
    make_topics(embedded_broker.address, topic)
    (tmp_path / "sites.json").write_text(json.dumps(SITES))
    settings = settings_for(
        embedded_broker,
        topic,
        token_keys,
        sites_file=tmp_path / "sites.json",
        gateway_secret="correct horse battery",
        FLATTR_TRUSTED_PROXIES="127.0.0.1",
        failures_per_min=10,
    )
    with serving(settings) as service:
        yield service


def by_cookie(ingest: Ingest, **headers: str) -> Answer:
    """POST as a browser does from a page of the blog, but for `headers`; an empty one is left out."""
    sent = {"origin": BLOG, "x_flattr_site": "k-blog", "cookie": f"flattr_token={ingest.token()}", **headers}
    named = {name.replace("_", "-") if name != "cookie" else name: value for name, value in sent.items() if value}
    return ask(f"{ingest.url}/v1/clicks", method="POST", headers=named, body=json.dumps(CLICK).encode())


@pytest.mark.parametrize("fetch", [{}, SCRIPT, BEACON, {"sec-fetch-site": "same-site"}, FORM])
def test_cookie_clicks_from_a_page_of_the_keys_site(guarded: Ingest, fetch: dict[str, str]) -> None:
    assert by_cookie(guarded, **fetch).status == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": ""},
        {"origin": "", "referer": f"{BLOG}/post"},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "https://shop.example.org"},
        {"origin": f"{BLOG}.evil.example"},
        {"x_flattr_site": ""},
        {**SCRIPT, "sec-fetch-site": "none"},
        {**FORM, "sec-fetch-site": "cross-site"},
        {**FORM, "sec-fetch-dest": "iframe"},
        {**BEACON, "sec-fetch-dest": "image"},
        {**SCRIPT, "sec-fetch-mode": "websocket"},
        {**SCRIPT, "sec-fetch-dest": "script"},
        {"sec-fetch-dest": "image"},
        {**FORM, "origin": "https://evil.example"},
    ],
)
def test_cookie_is_no_click_of_any_other_page_or_kind_of_request(guarded: Ingest, headers: dict[str, str]) -> None:
    answer = by_cookie(guarded, **headers)
    assert answer.status in (401, 403)
    assert answer.json["reason"] in ("token_missing", "origin_forbidden", "site_unknown")
    assert guarded.metric("flattr_ingest_clicks_accepted_total") == 0


def test_image_in_a_comment_of_a_known_site_clicks_for_nobody(guarded: Ingest) -> None:
    query = urlencode({**CLICK, "site": "k-blog"})
    shown = {
        "cookie": f"flattr_token={guarded.token()}",
        "referer": f"{BLOG}/forum/1",
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "no-cors",
        "sec-fetch-dest": "image",
    }
    for more in ({}, {"origin": BLOG}, {"x-flattr-gateway": "correct horse battery", "x-flattr-member": "ann"}):
        answer = ask(f"{guarded.url}/v1/click.gif?{query}", headers={**shown, **more})
        assert (answer.status, answer.json["reason"]) == (401, "token_missing")


def raw_post(ingest: Ingest, headers: list[tuple[str, str]]) -> Answer:
    """POST with exactly these headers, some of them twice."""
    connection = http.client.HTTPConnection("127.0.0.1", ingest.settings.port, timeout=10)
    body = json.dumps(CLICK).encode()
    connection.putrequest("POST", "/v1/clicks")
    for name, value in [*headers, ("content-length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = Answer(answer.status, dict(answer.getheaders()), answer.read())
    connection.close()
    return found


PAGE = [("origin", BLOG), ("x-flattr-site", "k-blog")]


def test_cookies_in_headers_of_their_own_are_joined(guarded: Ingest) -> None:
    mine = ("cookie", f"flattr_token={guarded.token()}")
    for cookies in ([mine, ("cookie", "a=b")], [("cookie", "a=b; c=d"), mine], [mine, ("cookie", "x="), mine]):
        assert raw_post(guarded, [*PAGE, *cookies]).status == 202


def test_two_members_cookies_are_nobodys_click(guarded: Ingest) -> None:
    ann, eve = (f"flattr_token={guarded.token(member)}" for member in ("ann", "eve"))
    for cookies in ([("cookie", f"{eve}; {ann}")], [("cookie", ann), ("cookie", eve)]):
        answer = raw_post(guarded, [*PAGE, *cookies])
        assert (answer.status, answer.json["reason"]) == (401, "token_invalid")


@pytest.mark.parametrize("name", ["origin", "authorization", "x-flattr-site", "sec-fetch-site", "content-type"])
def test_header_that_decides_counts_for_nothing_when_it_comes_twice(guarded: Ingest, name: str) -> None:
    first = {"origin": BLOG, "x-flattr-site": "k-blog", "authorization": f"Bearer {guarded.token()}"}
    twice = [*PAGE, ("authorization", first["authorization"]), (name, first.get(name, "same-origin"))]
    twice += [] if name in first else [(name, "cross-site")]
    answer = raw_post(guarded, twice)
    assert (answer.status, answer.json["reason"]) == (400, "http_malformed")


def pixel(
    ingest: Ingest, token: str, fields: Mapping[str, str] = NOTHING, headers: Mapping[str, str] = NOTHING
) -> Answer:
    """GET the pixel of CLICK, with other fields beside it or in their place."""
    query = urlencode({**CLICK, "token": token, **fields})
    return ask(f"{ingest.url}/v1/click.gif?{query}", headers=headers)


def test_pixel_token_clicks_once_for_what_it_is_bound_to(guarded: Ingest, embedded_broker: EmbeddedBroker) -> None:
    token = guarded.pixel_token()
    assert pixel(guarded, token).status == 200
    assert pixel(guarded, token, {"site": "k-blog", "thing": "HTTPS://Example.org:443/a?utm_source=x"}).status == 200
    assert pixel(guarded, token, headers={"referer": f"{BLOG}/post"}).status == 200
    assert pixel(guarded, guarded.pixel_token(site="k-blog")).status == 200
    clicks = decode_block(records(embedded_broker.address, guarded.settings.topic_clicks)[0].value)
    assert (clicks[0].member_id, clicks[0].creator_id, clicks[0].site_id) == ("ann", "bob", "blog")


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"creator_id": "eve"}, 403, "token_scope"),
        ({"thing": "https://example.org/b"}, 403, "token_scope"),
        ({"site": "k-shop"}, 403, "token_scope"),
        ({"site": "k-none"}, 403, "token_scope"),
        ({"site_id": "shop"}, 422, "field_value"),
        ({"action": "undo"}, 422, "field_value"),
        ({"clicked_at": "2026-10-20T12:00:00Z"}, 403, "token_scope"),
        ({"member_id": "eve"}, 403, "member_mismatch"),
    ],
)
def test_pixel_token_opens_nothing_else(guarded: Ingest, fields: dict[str, str], status: int, reason: str) -> None:
    answer = pixel(guarded, guarded.pixel_token(), fields)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert guarded.metric("flattr_ingest_clicks_accepted_total") == 0


def test_pixel_takes_pixel_tokens_alone_and_they_open_nothing_else(guarded: Ingest) -> None:
    for token, reason in [
        (guarded.token(), "token_purpose"),
        (guarded.pixel_token(valid_s=3601), "token_purpose"),
        (guarded.pixel_token(valid_s=-1), "token_expired"),
        (guarded.pixel_token(site="nowhere"), "site_unknown"),
        ("x", "token_invalid"),
    ]:
        assert pixel(guarded, token).json["reason"] == reason
    posted = guarded.post(CLICK, token=guarded.pixel_token())
    assert (posted.status, posted.json["reason"]) == (403, "token_purpose")


def test_pixel_on_a_page_of_any_other_address_is_refused(guarded: Ingest) -> None:
    for page in ("https://evil.example/", "http://[::1]/", "https://a]b/", "http://[x", "about:blank", ""):
        elsewhere = pixel(guarded, guarded.pixel_token(), headers={"referer": page})
        assert (elsewhere.status, elsewhere.json["reason"]) == (403, "origin_forbidden")


def test_pixel_token_is_bound_where_no_sites_are_known(ingest: Ingest, embedded_broker: EmbeddedBroker) -> None:
    assert pixel(ingest, ingest.pixel_token(site="anywhere")).status == 200
    (click,) = decode_block(records(embedded_broker.address, ingest.settings.topic_clicks)[0].value)
    assert click.site_id == "anywhere"
    assert pixel(ingest, ingest.pixel_token(site="a"), {"site_id": "b"}).status == 422


def flattr(ingest: Ingest, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy", "token", "issue", "ann", "--keys", str(ingest.settings.token_keys)]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False)


def test_command_issues_pixel_tokens_as_ingest_takes_them(guarded: Ingest) -> None:
    words = ["--pixel", "--creator", "bob", "--thing", CLICK["thing"], "--site", "blog"]
    done = flattr(guarded, *words)
    assert pixel(guarded, done.stdout.strip()).status == 200, done.stderr
    lacking = flattr(guarded, *words[:-2])
    assert (lacking.returncode, lacking.stderr.strip()) == (
        1, "flattr: a pixel token is for one flattr: give --site"
    )  # fmt: skip
    assert flattr(guarded, *words[1:]).returncode == 1


def test_token_that_is_early_says_when_to_come_again(guarded: Ingest) -> None:
    answer = pixel(guarded, guarded.pixel_token(iat=_later()))
    assert (answer.status, answer.json["reason"]) == (401, "token_early")
    assert 1 <= int(answer.headers["retry-after"]) <= 40


def _later() -> Any:
    return system_clock() // 1000 + 90


def test_failures_are_limited_by_address_and_a_valid_token_passes_all_the_same(guarded: Ingest) -> None:
    body = json.dumps(CLICK).encode()

    def fail(address: str, token: str = "x") -> Answer:
        headers = {"x-forwarded-for": address, "authorization": f"Bearer {token}"}
        return ask(f"{guarded.url}/v1/clicks", method="POST", headers=headers, body=body)

    statuses = [fail("192.0.2.7").status for _ in range(20)]
    assert set(statuses[:10]) == {401}
    assert statuses.count(429) >= 9
    last = fail("192.0.2.7")
    assert (last.status, last.json["reason"]) == (429, "rate_limited")
    assert 1 <= int(last.headers["retry-after"]) <= 60
    # Behind the same address, and behind the same proxy.
    assert fail("192.0.2.7", guarded.token()).status == 202
    assert fail("192.0.2.8").status == 401
    for path in ("/v1/clicks", "/v1/click.gif?token=x"):
        method = "POST" if path == "/v1/clicks" else "GET"
        headers = {"x-forwarded-for": "192.0.2.7", "x-flattr-gateway": "guess", "x-flattr-member": "ann"}
        assert ask(guarded.url + path, method=method, headers=headers).status == 429


@pytest.mark.parametrize(
    "origin",
    ["https://example.org:443", "http://a:80", "https://*.example.org", "https://", "https://ex ample", "https://Ex.org",
     "https://ex\u00e4mple.org", "https://a/", "https://a?x", "https://user@a", "ftp://a", "null", "", "http://127.1"],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused_when_it_is_written(origin: str, tmp_path: Path) -> None:
    file = tmp_path / "sites.json"
    file.write_text(json.dumps({"k": {"site_id": "blog", "origins": ["https://a.example:8443", origin]}}))
    with pytest.raises(FileError, match="is not an origin"):
        read_sites(file)


@pytest.mark.parametrize("key", ["", " ", "k\n", "k\u00e9y"])
def test_an_empty_key_would_be_every_request_without_one(key: str, tmp_path: Path) -> None:
    file = tmp_path / "sites.json"
    file.write_text(json.dumps({key: {"site_id": "blog", "origins": [BLOG]}}))
    with pytest.raises(FileError, match="is no key"):
        read_sites(file)


def test_a_sites_file_is_named_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "sites.json"
    for content in ("", "[" * 100_000, '{"k": {"site_id": "blog", "origins": [], "clicks_per_s": -1}}'):
        file.write_text(content)
        with pytest.raises(FileError, match=str(file)):
            read_sites(file)
