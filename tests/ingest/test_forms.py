"""All the forms in which a browser sends a click, and who is believed in each."""

from __future__ import annotations

import gzip
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from deploy.stack.embedded import EmbeddedBroker
from ingest.admission.forms import multipart_pairs
from ingest.admission.request import Request, body_token
from ingest.contract.click import decode_block
from ingest.contract.rejection import Reason
from ingest.runtime.refusal import Refused
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


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        ("[{}, 5]", "text/plain"),
        ('[{}, {{"token": 7}}]', "text/plain"),
        ("{}\n{{oops\n", "application/x-ndjson"),
        ("{{oops\n{}", "application/x-ndjson"),
    ],
)
def test_item_that_cannot_be_read_spoils_no_others_token(ingest: Ingest, form: str, content_type: str) -> None:
    body = form.format(json.dumps({**CLICK, "token": ingest.token()})).encode()
    answer = send(ingest, body, content_type=content_type)
    assert (answer.status, len(answer.json["receipts"]), len(answer.json["refused"])) == (202, 1, 1)


def test_many_items_that_cannot_be_read_take_no_time() -> None:
    body = b'{"token"\n' * 50_000
    began = time.process_time()
    assert body_token(body, b"application/x-ndjson") == b""
    assert time.process_time() - began < 0.1


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


def multipart(fields: dict[str, str], disposition: str = 'form-data; name="{}"', before: str = "") -> bytes:
    """A form as its client writes it: how it names a field, and what it says before that."""
    parts = [
        f"--XyZ\r\n{before}Content-Disposition: {disposition.format(name)}\r\n\r\n{value}\r\n"
        for name, value in fields.items()
    ]
    return ("".join(parts) + "--XyZ--\r\n").encode()


@pytest.mark.parametrize(
    ("disposition", "before"),
    [
        ('form-data; name="{}"', ""),
        ("form-data; name={}", "Content-Type: text/plain; charset=utf-8\r\n"),
        ("form-data; name={}; filename={}", "Content-Type: text/plain; charset=UTF-8\r\nContent-Length: 3\r\n"),
        ("form-data; name=\"{}\"; filename*=utf-8''%e2%82%ac", 'Content-Type: text/plain; charset="us-ascii"\r\n'),
        ("FORM-DATA;NAME={}", "content-transfer-encoding: 8bit\r\n"),
        ('form-data;\tname = "{}"', ""),
    ],
)
def test_form_data_is_a_click_however_its_names_are_written(ingest: Ingest, disposition: str, before: str) -> None:
    body = multipart(
        {**CLICK, "token": ingest.token()}, disposition.replace("{}; filename={}", "{0}; filename={0}"), before
    )
    for boundary in ("XyZ", '"XyZ"', "XyZ; charset=utf-8"):
        assert send(ingest, body, content_type=f"multipart/form-data; boundary={boundary}").status == 202
    assert send(ingest, body, content_type="multipart/form-data").json["reason"] == "json_malformed"
    bare = body.replace(b"\r\n", b"\n")
    assert send(ingest, bare, content_type="multipart/form-data; boundary=XyZ").status == 202
    padded = body.replace(b"--XyZ\r\n", b"--XyZ \t\r\n").replace(b"--XyZ--", b"--XyZ-- ")
    assert send(ingest, padded, content_type="multipart/form-data; boundary=XyZ").status == 202
    between = b"for people\r\n" + body + b"more for people"
    assert send(ingest, between, content_type="multipart/form-data; boundary=XyZ").status == 202


def fields_of(body: bytes) -> list[tuple[str, str]]:
    return multipart_pairs(body, b"multipart/form-data; boundary=XyZ")


def test_value_of_a_form_keeps_its_line_ends_and_an_escaped_name_its_quote() -> None:
    assert fields_of(multipart({"a": "1\r\n\r\n--Xy\r\n2\n"})) == [("a", "1\r\n\r\n--Xy\r\n2\n")]
    assert fields_of(multipart({'a\\"b': ""})) == [('a"b', "")]
    assert fields_of(multipart({"a": "1\r\n2"}).replace(b"\r\n", b"\n")) == [("a", "1\n2")]
    assert fields_of(multipart({"\u00e4": "\u00f6"})) == [("\u00e4", "\u00f6")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--XyZ",
        b"--XyZ--\r\n",
        b"--XyZ\r\n\r\n1\r\n--XyZ--",
        multipart({"a": "1"})[:-6],
        multipart({"a": "1"}, "form-data; filename={}"),
        multipart({"a": "1"}, before="Content-Type: multipart/mixed; boundary=b\r\n"),
        multipart({"a": "1"}, before="Content-Type: text/plain; charset=utf-16\r\n"),
        multipart({"a": "MQ=="}, before="Content-Transfer-Encoding: base64\r\n"),
        multipart({"a": "1"}, before="x: y\r\n" * 9),
        multipart({"a": "1"}, before=f"x: {'y' * 5000}\r\n"),
        multipart({"a": "1"}).replace(b"1\r", b"\xff\r"),
        multipart({str(number): "1" for number in range(33)}),
        b"--XyZ\r\n" * 10_000,
    ],
)
def test_form_data_that_is_none_is_refused_and_bounded(body: bytes) -> None:
    request = Request("POST", "/v1/clicks", b"", [(b"content-type", b"multipart/form-data; boundary=XyZ")])
    with pytest.raises(Refused) as caught:
        request.as_json(body)
    assert caught.value.refusal.reason in (Reason.JSON_MALFORMED, Reason.BODY_TOO_LARGE, Reason.BODY_EMPTY)


def test_mark_of_utf_8_is_skipped_wherever_a_file_begins(ingest: Ingest) -> None:
    mark, one = b"\xef\xbb\xbf", json.dumps(CLICK).encode()
    form = urlencode(CLICK).encode()
    for body, content_type, clicks in [
        (mark + one, "application/json", 1),
        (mark + b"[" + one + b"]", "text/plain", 1),
        (mark + one + b"\r\n" + mark + one + b"\n", "application/x-ndjson", 2),
        (mark + form, "application/x-www-form-urlencoded", 1),
        (mark + one, "application/x-www-form-urlencoded", 1),
        (b"%EF%BB%BF" + form, "application/x-www-form-urlencoded", 1),
    ]:
        answer = ingest.post(body, content_type=content_type)
        assert (answer.status, len(answer.json["receipts"])) == (202, clicks)
        assert "refused" not in answer.json or answer.json["refused"] == []
    wide = ingest.post(json.dumps(CLICK).encode("utf-16"))
    assert (wide.status, wide.json["reason"], wide.json["detail"]) == (
        400,
        "json_malformed",
        "the body is UTF-16: send UTF-8",
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "body_empty"),
        (b"&&&", "body_empty"),
        (b"thing=%ff&creator_id=bob", "json_malformed"),
        (b"&".join([b"a=1"] * 100), "body_too_large"),
        (b"thing=x&creator_id=bob&creator_id=eve", "json_malformed"),
        (b"thing=x&creator_id=bob&thing=y", "json_malformed"),
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
    query = urlencode({**CLICK, "token": ingest.pixel_token()})
    answer = ask(f"{ingest.url}/v1/click.gif?{query}")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.startswith(b"GIF89a")
    assert len(records(embedded_broker.address, ingest.settings.topic_clicks)) == 1
    refused = ask(f"{ingest.url}/v1/click.gif?{urlencode({'thing': 'x', 'token': ingest.pixel_token()})}")
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
            (b"referer", b"HTTP://[::1]:80/a?b"),
        ],
    )
    assert (request.bearer, request.media_type, request.site_key) == (b"abc", b"text/plain", "k/1")
    assert (request.origin, request.referer) == ("", "http://[::1]:80")
    assert Request("POST", "/", b"site=a&site=a", []).site_key == "a"
    with pytest.raises(Refused, match="comes twice"):
        _ = Request("POST", "/", b"site=a&site=b", []).site_key
