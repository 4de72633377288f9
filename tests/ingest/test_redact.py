"""Tokens are cut out by their shape, however they are written down; everything else stays as it was."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.http.redact import is_packed, redacted, redacted_text
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue, keygen


@pytest.fixture(params=["HS256", "EdDSA"])
def token(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    keygen(tmp_path / "keys.json", algorithm=request.param, kid="k")
    return issue(tmp_path / "keys.json", "ann", audience="flattr", now_ms=system_clock(), valid_s=60)


WAYS: dict[str, Callable[[str], str]] = {
    "json": lambda token: json.dumps({"thing": "x", "token": token}),
    "another field": lambda token: json.dumps({"x_session": token}),
    "a field's name": lambda token: json.dumps({token: 1}),
    "form": lambda token: urlencode({"thing": "x", "jwt": token}),
    "percent": lambda token: f"a={token.replace('.', '%2E')}&b=1",
    "percent twice": lambda token: f"a={token.replace('.', '%252E')}&b=1",
    "all of it in percent": lambda token: "".join(f"%{ord(char):02x}" for char in token),
    "json's escapes": lambda token: '{"x_a":"' + "".join(f"\\u{ord(char):04X}" for char in token) + '"}',
    "first letter escaped": lambda token: '{"x_a":"\\u0065' + token[1:] + '"}',
    "json in json": lambda token: json.dumps(json.dumps({"a": token.replace(".", "\\u002e")})),
    "html": lambda token: f"<p>&#101;{token[1:]}</p>",
    "multipart": lambda token: f'--b\r\nContent-Disposition: form-data; name="t"\r\n\r\n{token}\r\n--b--',
    "header": lambda token: f"GET / HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n",
    "cookie": lambda token: f"Cookie: a=b; flattr_token={token}; c=d",
    "address": lambda token: f"https://x.example/v1/click.gif?token={token}&thing=1",
    "broken over lines": lambda token: "\r\n ".join(re.findall(".{1,30}", token)),
    "broken in json": lambda token: '"' + token[:40] + "\\n" + token[40:] + '"',
    "quoted-printable": lambda token: "=\r\n".join(re.findall(".{1,70}", token)),
    "without its head": lambda token: token.split(".", 1)[1],
    "torn": lambda token: f'{{"token": "{token[:-9]}',
    "base64": lambda token: base64.b64encode(f'..{{"token":"{token}"}}'.encode()).decode(),
    "base64 in lines": lambda token: base64.encodebytes(f"{token}".encode()).decode(),
    "behind letters": lambda token: f"keyey{token}",
    "base64 in lines in json": lambda token: json.dumps(base64.encodebytes(token.encode()).decode()),
    "hexadecimal": lambda token: f'{{"x_a":"{token.encode().hex()}"}}',
    "c's escapes": lambda token: "".join(f"\\{ord(char):03o}" for char in token),
    "quoted-printable in small letters": lambda token: "".join(f"={ord(char):02x}" for char in token),
    "html without the semicolon": lambda token: token.replace(".", "&#46"),
    "other dots": lambda token: token.replace(".", "&period;"),
    "old script's escapes": lambda token: token.replace(".", "%u002e"),
    "new script's escapes": lambda token: token.replace(".", "\\u{2e}"),
    "jws in json": lambda token: json.dumps({"protected": token.split(".")[0], "rest": token.split(".")[1:]}),
    "in two fields": lambda token: json.dumps({"a": token[:60], "b": token[60:]}),
    "packed in base64": lambda token: base64.b64encode(gzip.compress(token.encode())).decode(),
}


@pytest.mark.parametrize("way", WAYS)
def test_token_is_cut_out_however_it_is_written(token: str, way: str) -> None:
    raw = WAYS[way](token).encode()
    safe = redacted(raw)
    assert b"..." in safe
    _, claims, signature = token.split(".")
    for secret in (claims[4:40], signature[:20], signature[10:40]):
        assert secret.encode() not in safe
        assert base64.b64encode(secret.encode())[4:-4] not in safe
    assert redacted_text(WAYS[way](token)) == safe.decode()


def test_token_in_utf_16_is_cut_out(token: str) -> None:
    safe = redacted(json.dumps({"token": token}).encode("utf-16"))
    assert safe.decode("utf-16", "ignore").find(token[-20:]) < 0
    assert len(safe) < 80


@pytest.mark.parametrize(
    "raw",
    [
        b'{"creator_id": "bob", "thing": "https://x.example/?state=eyJhIjoxfQ&b=they said.hello world"}',
        b"thing=https%3A%2F%2Fx.example%2Feyes.html&creator_id=key.wyvern.eyrie",
        b'{"thing":"' + b"a" * 3000 + b'.eyJ"}',
        b'{"click_id":"4be0643f-1d98-573b-97cd-ca98a65347dd","thing":"https://x.example/?s=eyJhIjoxfQeyJhIjoxfQ"}',
        b"\xff\x00\xfe",
        b"",
    ],
)
def test_what_is_no_token_stays(raw: bytes) -> None:
    assert redacted(raw) == raw


@given(st.binary(max_size=200))
def test_any_bytes_come_through_and_no_more_of_them(raw: bytes) -> None:
    assert len(redacted(raw)) <= max(len(raw), 0) + 3


def test_packed_input_is_known_by_how_it_begins() -> None:
    for raw in (gzip.compress(b"a"), *(zlib.compress(b"a", level) for level in (1, 5, 6, 9))):
        assert is_packed(raw)
    assert is_packed(b"--b\r\n\r\n" + gzip.compress(b"a"))
    assert not is_packed(b'{"a": 1}')


def test_hostile_input_takes_no_longer_than_its_length_explains() -> None:
    def took_s(raw: bytes) -> float:
        return min(_once(raw) for _ in range(3))

    def _once(raw: bytes) -> float:
        began = time.thread_time()
        redacted(raw)
        return time.thread_time() - began

    for piece in (b"eyJ", b"eyJhbGciOi", b"%65", b"\\u0065", b"a.", b" ", b"=\r\n", b"&#101;", b"e.eyJ", b"\\"):
        small, large = took_s(piece * 1000), took_s(piece * 8000)
        assert large < 40 * max(small, 0.0002), piece
