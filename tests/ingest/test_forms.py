"""All the forms in which a browser sends a click, and who is believed in each."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from deploy.local import EmbeddedBroker
from ingest.click import decode_block
from ingest.request import Request
from tests.ingest.conftest import Ingest, make_topics, records, serving, settings_for
from tests.support.serving import Answer, ask

CLICK = {"creator_id": "bob", "thing": "https://example.org/a"}
BLOG = "https://blog.example.org"
SITES = {"k-blog": {"site_id": "blog", "origins": [BLOG], "clicks_per_s": 1000}}


def send(ingest: Ingest, body: bytes, *, path: str = "/v1/clicks", **headers: str) -> Answer:
    """POST without a token of its own."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(ingest.url + path, method="POST", headers={"content-type": "text/plain", **names}, body=body)


def test_beacon_of_plain_text_carries_its_token_in_the_body(ingest: Ingest) -> None:
    body = json.dumps({**CLICK, "token": ingest.token()}).encode()
    assert send(ingest, body, content_type="text/plain;charset=UTF-8").status == 202
    assert send(ingest, b"[" + body + b"," + body + b"]").status == 202
    assert send(ingest, body + b"\n" + body, content_type="application/x-ndjson").status == 202


def test_items_with_different_tokens_are_refused(ingest: Ingest) -> None:
    items = [{**CLICK, "token": ingest.token(member)} for member in ("ann", "eve")]
    answer = send(ingest, json.dumps(items).encode())
    assert (answer.status, answer.json["reason"]) == (401, "token_invalid")


def test_form_is_a_click(ingest: Ingest, embedded_broker: EmbeddedBroker) -> None:
    click_id = str(uuid.uuid4())
    fields = {
        **CLICK,
        "token": ingest.token(),
        "click_id": click_id,
        "v": "1",
        "clicked_at": "1",
        "sent_at": "2",
        "site_id": "",
        "x_a": "\u00e4",
    }
    form = urlencode(fields).encode()
    assert send(ingest, form, content_type="application/x-www-form-urlencoded").status == 202
    (click,) = decode_block(records(embedded_broker.address, ingest.settings.topic_clicks)[0].value)
    assert (click.click_id, click.clicked_at, click.sent_at) == (click_id, 1, 2)
    assert click.thing == CLICK["thing"]


def test_json_that_curl_calls_a_form_is_json(ingest: Ingest) -> None:
    assert ingest.post(CLICK, content_type="application/x-www-form-urlencoded").status == 202


def test_form_data_of_send_beacon_is_a_click(ingest: Ingest) -> None:
    parts = [
        f'--XyZ\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {**CLICK, "token": ingest.token()}.items()
    ]
    body = ("".join(parts) + "--XyZ--\r\n").encode()
    assert send(ingest, body, content_type="multipart/form-data; boundary=XyZ").status == 202
    assert send(ingest, body, content_type="multipart/form-data").json["reason"] == "json_malformed"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "body_empty"),
        (b"&&&", "body_empty"),
        (b"thing=%ff&creator_id=bob", "json_malformed"),
        (b"&".join([b"a=1"] * 100), "body_too_large"),
        (b"thing=x&colour=red&creator_id=bob", "field_unknown"),
        (b"thing=x&creator_id=bob&clicked_at=-1", "field_value"),
        (b"thing=x&creator_id=bob&clicked_at=1.5", "field_value"),
        (b"thing=x&creator_id=bob&clicked_at=1&sent_at=99999999999999999999", "field_value"),
    ],
)
def test_hopeless_form_is_refused_with_its_reason(ingest: Ingest, body: bytes, reason: str) -> None:
    answer = ingest.post(body, content_type="application/x-www-form-urlencoded")
    assert answer.status in (400, 413, 422)
    assert answer.json["reason"] == reason


def test_pixel_is_a_click_and_a_picture(ingest: Ingest, embedded_broker: EmbeddedBroker) -> None:
    query = urlencode({**CLICK, "token": ingest.token()})
    answer = ask(f"{ingest.url}/v1/click.gif?{query}")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.startswith(b"GIF89a")
    assert len(records(embedded_broker.address, ingest.settings.topic_clicks)) == 1
    refused = ask(f"{ingest.url}/v1/click.gif?{urlencode({'thing': 'x', 'token': ingest.token()})}")
    assert (refused.status, refused.json["reason"]) == (422, "field_missing")
    assert ask(f"{ingest.url}/v1/click.gif?{query}", method="POST", body=b"").status == 405


def test_gzip_is_unpacked_and_a_bomb_is_not(ingest: Ingest) -> None:
    packed = gzip.compress(json.dumps(CLICK).encode())
    assert ingest.post(packed, headers={"content-encoding": "gzip"}).status == 202
    for body, encoding, reason in [
        (gzip.compress(b" " * 100_000_000), "gzip", "body_too_large"),
        (packed[:-9], "gzip", "encoding_broken"),
        (b"not gzip", "gzip", "encoding_broken"),
        (packed + packed, "gzip", "body_too_large"),
        (packed, "br", "encoding_unsupported"),
    ]:
        assert ingest.post(body, headers={"content-encoding": encoding}).json["reason"] == reason


def test_any_page_may_send_and_read_as_long_as_no_sites_are_configured(ingest: Ingest) -> None:
    preflight = ask(ingest.url + "/v1/clicks", method="OPTIONS", headers={"origin": BLOG})
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert int(preflight.headers["access-control-max-age"]) >= 3600
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = ingest.post(CLICK, headers={"origin": BLOG})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (202, "*")


def test_cookie_of_an_unknown_page_counts_for_nothing(ingest: Ingest) -> None:
    answer = send(ingest, json.dumps(CLICK).encode(), cookie=f"flattr_token={ingest.token()}", origin=BLOG)
    assert (answer.status, answer.json["reason"]) == (401, "token_missing")


@pytest.fixture
def guarded(embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, tmp_path: Path) -> Iterator[Ingest]:
    """A service that knows one site, and trusts one gateway."""
    make_topics(embedded_broker.address, topic)
    (tmp_path / "sites.json").write_text(json.dumps(SITES))
    settings = settings_for(
        embedded_broker,
        topic,
        token_keys,
        sites_file=tmp_path / "sites.json",
        gateway_secret="correct horse battery",
    )
    with serving(settings) as service:
        yield service


def test_known_site_may_send_with_the_members_cookie(guarded: Ingest, embedded_broker: EmbeddedBroker) -> None:
    body = json.dumps(CLICK).encode()
    cookie = f"a=b; flattr_token={guarded.token()}"
    answer = send(guarded, body, path="/v1/clicks?site=k-blog", cookie=cookie, origin=BLOG)
    assert answer.status == 202
    assert answer.headers["access-control-allow-origin"] == BLOG
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["vary"] == "origin"
    (click,) = decode_block(records(embedded_broker.address, guarded.settings.topic_clicks)[0].value)
    assert (click.site_id, click.member_id) == ("blog", "ann")


def test_pixel_is_known_by_its_referer(guarded: Ingest) -> None:
    query = urlencode({**CLICK, "site": "k-blog"})
    headers = {"cookie": f"flattr_token={guarded.token()}", "referer": f"{BLOG}/post?x=1"}
    assert ask(f"{guarded.url}/v1/click.gif?{query}", headers=headers).status == 200
    headers["referer"] = "https://evil.example/"
    refused = ask(f"{guarded.url}/v1/click.gif?{query}", headers=headers)
    assert (refused.status, refused.json["reason"]) == (403, "origin_forbidden")


def test_pages_of_other_sites_are_refused(guarded: Ingest) -> None:
    token = {"authorization": f"Bearer {guarded.token()}"}
    body = json.dumps(CLICK).encode()
    for headers, reason in [
        ({"origin": BLOG}, "site_unknown"),
        ({"origin": BLOG, "x-flattr-site": "k-other"}, "site_unknown"),
        ({"origin": "https://evil.example", "x-flattr-site": "k-blog"}, "origin_forbidden"),
        ({"origin": "null", "x-flattr-site": "k-blog"}, "origin_forbidden"),
    ]:
        answer = send(guarded, body, **token, **headers)
        assert (answer.status, answer.json["reason"]) == (403, reason)
    evil = ask(guarded.url + "/v1/clicks", method="OPTIONS", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in evil.headers
    good = ask(guarded.url + "/v1/clicks", method="OPTIONS", headers={"origin": BLOG})
    assert good.headers["access-control-allow-origin"] == BLOG


def test_server_needs_no_site_key_and_cannot_speak_for_two_sites(guarded: Ingest) -> None:
    assert guarded.post(CLICK).status == 202
    other = guarded.post({**CLICK, "site_id": "shop"}, headers={"x-flattr-site": "k-blog"})
    assert (other.status, other.json["field"]) == (422, "site_id")


def test_gateway_speaks_for_members_only_with_its_secret(guarded: Ingest, ingest: Ingest) -> None:
    body = json.dumps(CLICK).encode()
    gateway = {"x-flattr-gateway": "correct horse battery", "x-flattr-member": "zoe"}
    assert send(guarded, body, **gateway).status == 202
    assert send(guarded, body, **{**gateway, "x-flattr-gateway": "wrong"}).json["reason"] == "token_invalid"
    assert send(guarded, body, **{**gateway, "x-flattr-member": "a b"}).json["reason"] == "token_invalid"
    assert send(ingest, body, **gateway).json["reason"] == "token_missing"


def test_member_who_clicks_too_often_is_told_when_to_come_back(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    make_topics(embedded_broker.address, topic)
    limits = {"member_clicks_per_s": 0.5, "member_burst_clicks": 3, "batch_max_clicks": 3}
    with serving(settings_for(embedded_broker, topic, token_keys, **limits)) as ingest:
        assert ingest.post([CLICK] * 2).status == 202
        limited = ingest.post([CLICK] * 3)
        assert (limited.status, limited.json["reason"]) == (429, "rate_limited")
        assert 1 <= int(limited.headers["retry-after"]) <= 5
        assert ingest.post([CLICK] * 3, member="eve").status == 202


def test_request_reads_the_forms_of_headers() -> None:
    request = Request(
        "POST",
        "/v1/clicks",
        b"site=k%2F1&x=2",
        [
            (b"authorization", b"bearer  abc "),
            (b"content-type", b"Text/Plain; charset=utf-8"),
            (b"referer", b"http://[x/"),
        ],
    )
    assert (request.bearer, request.media_type, request.site_key) == (b"abc", b"text/plain", "k/1")
    assert request.origin == "http://x"
