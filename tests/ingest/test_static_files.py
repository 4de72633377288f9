"""What browsers fetch from ingest: small, cacheable, under an address that never changes; and HEAD wherever GET is."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cramjam
import pytest
from typer.testing import CliRunner

from deploy.stack.embedded import ROOT
from ingest.http.compressed import accepted
from ingest.http.form_texts import TEXTS
from tests.ingest.conftest import Ingest
from tests.support.commands import app
from tests.support.serving import ask

STATIC = Path(__file__).resolve().parents[2] / "ingest/http/static"
BUTTON = (STATIC / "button.js").read_bytes()


def test_button_comes_compressed_as_the_browser_takes_it(ingest: Ingest) -> None:
    codings: dict[str, tuple[str | None, Callable[[bytes], bytes]]] = {
        "gzip, deflate, br, zstd": ("br", lambda body: bytes(cramjam.brotli.decompress(body))),
        "gzip": ("gzip", gzip.decompress),
        "br;q=0, *;q=0.5": ("gzip", gzip.decompress),
        "identity": (None, bytes),
        "br;q=0,gzip;q=0": (None, bytes),
        "br;q=x": (None, bytes),
    }
    tags = {}
    for header, (coding, unpack) in codings.items():
        answer = ingest.get("/button.js", **{"accept-encoding": header})
        assert answer.headers.get("content-encoding") == coding, header
        assert unpack(answer.body) == BUTTON
        assert answer.headers["vary"] == "accept-encoding"
        tags[coding] = answer.headers["etag"]
        again = ingest.get("/button.js", **{"accept-encoding": header, "if-none-match": f'"x", W/{tags[coding]}'})
        assert (again.status, again.body) == (304, b"")
    assert len(set(tags.values())) == 3


@pytest.mark.parametrize("header", ["", ",", ";q=1", "br;;q", "q=1;q=1", "gzip;q=1e999", "\x00"])
def test_any_accept_encoding_is_understood_or_weighs_nothing(header: str) -> None:
    assert all(weight >= 0 for weight in accepted(header).values())


class _Script(HTMLParser):
    attributes: dict[str, str | None]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.attributes = dict(attrs)


def snippet(*more: str) -> dict[str, str | None]:
    options = ["--ingest", "https://clicks.example/", "--counters", "https://api.example", "--creator", 'a"b', *more]
    done = CliRunner().invoke(app, ["sites", "snippet", *options])
    assert done.exit_code == 0, done.output
    assert 'creator="a&quot;b"' in done.output
    parser = _Script()
    parser.feed(done.output)
    return parser.attributes


def test_snippet_pins_the_button_by_an_address_and_a_hash(ingest: Ingest) -> None:
    script = snippet("--site", "blog", "--join", "https://platform.example/join?a=1&b=2")
    assert script["data-join"] == "https://platform.example/join?a=1&b=2"
    assert script["crossorigin"] == "anonymous"
    source = script["src"]
    assert source
    answer = ingest.get(source.removeprefix("https://clicks.example"))
    assert answer.body == BUTTON
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["access-control-allow-origin"] == "*"
    digest = base64.b64encode(hashlib.sha384(answer.body).digest()).decode()
    assert script["integrity"] == f"sha384-{digest}"


def test_buttons_of_earlier_releases_stand_under_their_own_hash() -> None:
    for file in STATIC.glob("button-*.js"):
        assert file.name == f"button-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.js"


def test_head_answers_like_get_on_every_route_and_counts_nothing(ingest: Ingest) -> None:
    paths = [
        "/button.js",
        "/demo",
        "/demo/join",
        "/docs",
        "/openapi.json",
        "/v1/click.schema.json",
        "/live",
        "/ready",
        "/metrics",
    ]
    pixel = f"/v1/click.gif?creator_id=bob&thing=https%3A%2F%2Fexample.org%2Fa&token={ingest.pixel_token()}"
    before = ingest.metric("flattr_ingest_clicks_accepted_total")
    for path in [*paths, pixel]:
        head = ask(ingest.url + path, method="HEAD")
        assert (head.status, head.body) == (200, b""), path
        assert "content-type" in head.headers
    assert ingest.metric("flattr_ingest_clicks_accepted_total") == before
    got = ask(ingest.url + pixel)
    head = ask(ingest.url + pixel, method="HEAD")
    assert {name: got.headers[name] for name in ("content-type", "content-length", "cache-control")} == {
        name: head.headers[name] for name in ("content-type", "content-length", "cache-control")
    }


def test_page_of_another_origin_may_read_when_to_try_again(ingest: Ingest) -> None:
    answer = ingest.post({"creator_id": "bob", "thing": "a"}, headers={"origin": "https://site.example"})
    assert answer.headers["access-control-expose-headers"] == "retry-after"


FORM = b"creator_id=bob&thing=https%3A%2F%2Fexample.org%2Fform"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("body", "token", "status", "sentence"),
    [
        (FORM, None, 202, "Thank you"),
        (FORM, "x.y.z", 401, "Sign in on the page"),
        (b"creator_id=ann&thing=a", None, 422, "your own work"),
        (b"creator_id=bob&thing=a&<script>alert(1)</script>=1", None, 422, "field_unknown"),
    ],
)
def test_form_of_a_reader_ends_on_a_page(
    ingest: Ingest, body: bytes, token: str | None, status: int, sentence: str
) -> None:
    kind = "application/x-www-form-urlencoded"
    answer = ingest.post(body, token=token, content_type=kind, headers={"accept": BROWSER})
    assert answer.status == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert sentence in answer.body.decode()
    assert b"<script" not in answer.body


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("ja, fr;q=0.4, uk;q=0.7", "uk"),
        ("ja", "en"),
        ("", "en"),
        ("den, dex;q=1", "en"),
        ("es;q=nan, it;q=7, sv;q=", "en"),
        ("pl;q=0, nl;q=0.001", "nl"),
        (",;q=;,\xff;;" + "de;q=0," * 2000 + "zh", "zh"),
    ],
)
def test_page_of_a_form_speaks_the_reader_s_language(ingest: Ingest, wanted: str, language: str) -> None:
    answer = ingest.post(
        FORM,
        content_type="application/x-www-form-urlencoded",
        headers={"accept": BROWSER, "accept-language": wanted},
    )
    assert f'<html lang="{language}">' in answer.body.decode()
    assert f"<h1>{TEXTS[language].thanks}</h1>" in answer.body.decode()


def test_page_of_a_form_speaks_every_language_of_the_button() -> None:
    of_button = (ROOT / "ingest/button/texts.js").read_text()
    assert set(TEXTS) == set(re.findall(r"^(?:const TEXTS = `)?([a-z]{2}):", of_button, re.MULTILINE))
    assert all(len(set(texts)) == len(texts) and all(texts) for texts in TEXTS.values())


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_program_that_sends_a_form_keeps_its_json(ingest: Ingest, accept: str) -> None:
    answer = ingest.post(FORM, content_type="application/x-www-form-urlencoded", headers={"accept": accept})
    assert answer.json["receipts"]


def test_page_script_that_sends_json_keeps_its_json(ingest: Ingest) -> None:
    answer = ingest.post({"creator_id": "bob", "thing": "a"}, headers={"accept": BROWSER})
    assert answer.json["receipts"]
    assert re.match("application/json", answer.headers["content-type"])
