"""Seeded hostile requests: valid beacons in every accepted form, changed in ways that somebody or an accident would.

Each input is the bytes of one whole HTTP/1.1 request whose length is right, so that the answers of a
connection stay in step with its requests; what is wrong with it is its head's values, its token or its body.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import random
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

Fields = dict[str, Any]
Headers = dict[str, bytes]

_BOMB: Final = gzip.compress(b"\0" * 50_000_000, 9)
_HOSTILE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 10**30, 10**400, 2**63, 2**64, -(2**63), "", " ", "\0",
    "a\0b", "\n", "\r\n", "\x7f", "\u202e", "\ufeff", "\ud800", "\udfff\ud800", "a b", "x" * 64, "x" * 65, "x" * 2049,
    "\U0001f600" * 40,     [], [1], {},
    {"a": {"b": []}}, "null", "NaN", "../../etc/passwd", "'; DROP TABLE flattrs;--", "%00%ff", "{{7*7}}", "<script>",
    "http://[::1",     "https://x:99999/", "http://a\\b", "https://xn--/",
    "2026-11-20T12:00:00Z", "2026-13-99T99:99:99Z", "0001-01-01T00:00:00Z",
)  # fmt: skip
_NAMES: Final = (
    "v",
    "click_id",
    "action",
    "creator_id",
    "thing",
    "clicked_at",
    "sent_at",
    "site_id",
    "member_id",
    "token",
    "x_own",
    "nonsense",
)
_TYPES: Final = (
    b"application/json", b"text/plain", b"application/x-ndjson", b"application/x-www-form-urlencoded", b"", b"\xff",
    b"multipart/form-data; boundary=b", b"multipart/form-data; boundary=", b"application/json; charset=utf-16",
    b"a/b;" * 200, b"application/jsonl",
)  # fmt: skip
_ALGORITHMS: Final[tuple[Any, ...]] = ("none", "None", "nOnE", "HS512", "RS256", "EdDSA", "", None, 1, [], {})
_KEY_IDS: Final[tuple[Any, ...]] = ("second", "../../dev/null", "' OR 1=1", "", None, 1, [], {}, "\ud800")
_CLAIMS: Final = ("sub", "aud", "exp", "iat", "nbf", "iss", "jti")
_CRITICAL: Final[tuple[Fields, ...]] = (
    {"crit": ["x"]}, {"crit": 7}, {"b64": False}, {"zip": "DEF"}, {"jwk": {"kty": "oct", "k": "AA"}}, {"typ": []},
)  # fmt: skip
_NO_CLAIMS: Final = (
    b"\xff", b"[]", b"{}", b"{" * 3000, b"null", b'{"sub":' + b"[" * 3000, b'{"exp":1e999,"sub":"a"}',
    b'{"sub":"a","sub":"b"}',
)  # fmt: skip
_ENCODINGS: Final = (b"gzip", b"br", b"deflate", b"identity", b"gzip, gzip", b"GZIP", b"\x7f", b"x" * 300)


def part(value: object) -> bytes:
    """One part of a token: base64url of bytes, or of a value as JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Fuzz:
    """An endless, repeatable stream of requests. ``secret`` is the HS256 key ``kid`` that ingest trusts."""

    def __init__(self, seed: int, secret: bytes, kid: str, now_ms: int) -> None:
        self._dice = random.Random(seed)
        self._secret = secret
        self._kid = kid
        self._now_ms = now_ms
        self._good = [self._signed({"alg": "HS256", "kid": kid}, self._claims(f"member-{n}")) for n in range(200)]
        self._forms: tuple[Callable[[], tuple[str, Headers, bytes]], ...] = (
            self._json, self._json, self._batch, self._lines, self._form, self._multipart, self._gzipped, self._pixel,
            self._in_body, self._in_cookie,
        )  # fmt: skip

    def requests(self, count: int) -> Iterator[bytes]:
        """So many requests."""
        for _ in range(count):
            target, headers, body = self._dice.choice(self._forms)()
            if self._dice.random() < 0.15:
                self._change_head(headers)
            if body and self._dice.random() < 0.3:
                body = self._bent(body)
            yield self._framed(target, headers, body)

    def _framed(self, target: str, headers: Headers, body: bytes) -> bytes:
        method = b"GET" if target.startswith("/v1/click.gif") else b"POST"
        if self._dice.random() < 0.01:
            method = self._dice.choice((b"PUT", b"DELETE", b"PATCH", b"GET", b"POST", b"OPTIONS"))
        head = [b"%s %s HTTP/1.1" % (method, target.encode("ascii")), b"host: 127.0.0.1"]
        head += [name.encode() + b": " + _one_line(value) for name, value in headers.items()]
        if body and self._dice.random() < 0.05:
            head.append(b"transfer-encoding: chunked")
            at = self._dice.randrange(len(body) + 1)
            pieces = [piece for piece in (body[:at], body[at:]) if piece]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        else:
            head.append(b"content-length: %d" % len(body))
        return b"\r\n".join([*head, b"", b""]) + body

    # The forms, each a valid request but for the fields and tokens that were changed.

    def _json(self) -> tuple[str, Headers, bytes]:
        return "/v1/clicks", self._headers(b"application/json"), self._object()

    def _batch(self) -> tuple[str, Headers, bytes]:
        count = self._dice.choice((0, 1, 2, 3, 10, 30)) if self._dice.random() < 0.99 else 1001
        body = b"[" + b",".join(self._object() for _ in range(count)) + b"]"
        return "/v1/clicks", self._headers(b"application/json"), body

    def _lines(self) -> tuple[str, Headers, bytes]:
        body = b"\n".join(self._object() for _ in range(self._dice.choice((1, 2, 5, 20))))
        return "/v1/clicks", self._headers(b"application/x-ndjson"), body

    def _form(self) -> tuple[str, Headers, bytes]:
        return "/v1/clicks", self._headers(b"application/x-www-form-urlencoded"), _encoded(self._fields()).encode()

    def _multipart(self) -> tuple[str, Headers, bytes]:
        lines = [
            b'--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n'
            % (name.encode(), str(value).encode("utf-8", "surrogatepass"))
            for name, value in self._fields().items()
        ]
        return "/v1/clicks", self._headers(b"multipart/form-data; boundary=b"), b"".join(lines) + b"--b--\r\n"

    def _gzipped(self) -> tuple[str, Headers, bytes]:
        plain = self._object()
        chance = self._dice.random()
        if chance < 0.8:
            packed = gzip.compress(plain, 1, mtime=0)
        elif chance < 0.998:
            whole = gzip.compress(plain, mtime=0)
            packed = self._dice.choice((whole * 2, zlib.compress(plain), plain, whole[:-6]))
        else:
            packed = _BOMB
        return "/v1/clicks", {**self._headers(b"application/json"), "content-encoding": b"gzip"}, packed

    def _pixel(self) -> tuple[str, Headers, bytes]:
        fields = self._fields()
        if self._dice.random() < 0.5:
            bound = {"aud": "flattr-pixel", "exp": self._now_ms // 1000 + 600, "site": "blog"}
            bound |= {"creator": fields.get("creator_id"), "thing": fields.get("thing")}
            token = self._signed({"alg": "HS256", "kid": self._kid}, self._claims("member-1") | bound)
            return f"/v1/click.gif?{_encoded({**fields, 'token': token.decode()})}"[:8000], {}, b""
        fields["token"] = self._token().decode("latin-1")
        return f"/v1/click.gif?{_encoded(fields)}"[:8000], {}, b""

    def _in_body(self) -> tuple[str, Headers, bytes]:
        return "/v1/clicks", {}, self._object(token=self._token().decode("latin-1"))

    def _in_cookie(self) -> tuple[str, Headers, bytes]:
        junk = self._dice.choice((b"", b"a=b; ", b"=; ;;", b'flattr_token="x"; '))
        return "/v1/clicks", {"cookie": junk + b"flattr_token=" + self._token()}, self._object()

    # Fields.

    def _fields(self) -> Fields:
        number = self._dice.randrange(2000)
        fields: Fields = {
            "click_id": str(uuid.UUID(int=self._dice.getrandbits(128), version=4)),
            "creator_id": f"creator-{number % 97}",
            "thing": f"https://example.org/articles/{number}",
        }
        if self._dice.random() < 0.3:
            fields |= {"v": 1, "action": self._dice.choice(("flattr", "undo")), "clicked_at": self._now_ms - number}
        while self._dice.random() < 0.35:
            name = self._dice.choice(_NAMES)
            if self._dice.random() < 0.2:
                fields.pop(name, None)
            else:
                fields[name] = self._dice.choice(_HOSTILE)
        return fields

    def _object(self, **more: object) -> bytes:
        fields = {**self._fields(), **more}
        text = json.dumps(fields, ensure_ascii=self._dice.random() < 0.7).encode("utf-8", "surrogatepass")
        chance = self._dice.random()
        if chance < 0.02:
            return text[:-1] + b"," + text[1:]  # every key twice
        if chance < 0.04:
            depth = self._dice.choice((2, 70, 600, 5000))
            opening, closing = self._dice.choice(((b"[", b"]"), (b'{"x_a":', b"}")))
            return text[:-1] + b',"x_deep":' + opening * depth + b"0" + closing * depth + b"}"
        if chance < 0.05:
            return text[:-1] + b',"clicked_at":' + b"9" * self._dice.choice((5, 20, 400, 5000)) + b"}"
        return text

    # Tokens.

    def _claims(self, member: str) -> Fields:
        return {"sub": member, "aud": "flattr", "iat": self._now_ms // 1000, "exp": self._now_ms // 1000 + 86_400}

    def _signed(self, header: object, claims: object) -> bytes:
        text = part(header) + b"." + part(claims)
        return text + b"." + part(hmac.new(self._secret, text, hashlib.sha256).digest())

    def _token(self) -> bytes:
        good = self._dice.choice(self._good)
        if self._dice.random() < 0.75:
            return good
        way = self._dice.randrange(8)
        if way == 0:
            return good[: self._dice.randrange(len(good))]
        if way == 1:
            return self._bent(good)
        if way == 2:
            pieces = [*good.split(b"."), b"", b"=" * 9]
            return b".".join(self._dice.sample(pieces, self._dice.randrange(1, 6)))
        return self._forged(good) if way == 3 else self._signed_wrongly()

    def _forged(self, good: bytes) -> bytes:
        """Another algorithm in the head of a token that was good."""
        _, claims, signature = good.split(b".")
        alg = self._dice.choice(_ALGORITHMS)
        return part({"alg": alg, "kid": self._kid}) + b"." + claims + b"." + self._dice.choice((b"", signature))

    def _signed_wrongly(self) -> bytes:
        """Signed with the right key, and wrong in what it says."""
        header: Fields = {"alg": "HS256", "kid": self._kid}
        claims: object = self._claims("member-1")
        way = self._dice.randrange(4)
        if way == 0:
            header["kid"] = self._dice.choice(_KEY_IDS)
        elif way == 1:
            header |= self._dice.choice(_CRITICAL)
        elif way == 2:
            claims = {**self._claims("member-2"), self._dice.choice(_CLAIMS): self._dice.choice(_HOSTILE)}
        else:
            claims = self._dice.choice(_NO_CLAIMS)
        return self._signed(header, claims)

    # Heads and bytes.

    def _headers(self, media_type: bytes) -> Headers:
        headers: Headers = {"authorization": b"Bearer " + self._token()}
        return {**headers, "content-type": media_type} if media_type else headers

    def _change_head(self, headers: Headers) -> None:
        name = self._dice.choice(
            ("content-type", "content-encoding", "authorization", "origin", "referer", "x-flattr-site", "cookie",
             "x-flattr-gateway", "x-flattr-member", "traceparent", "accept", "x-long")
        )  # fmt: skip
        if name == "content-type":
            headers[name] = self._dice.choice(_TYPES)
        elif name == "content-encoding":
            headers[name] = self._dice.choice(_ENCODINGS)
        elif name == "x-long":
            headers[name] = b"x" * self._dice.choice((100, 10_000, 20_000))
        else:
            value = headers.get(name, b"http://user:p@[::1/%zz?a#b" if name == "referer" else b"https://example.org")
            headers[name] = self._bent(value)

    def _bent(self, data: bytes) -> bytes:
        """The bytes with one to three accidents."""
        bent = bytearray(data)
        for _ in range(self._dice.randrange(1, 4)):
            at = self._dice.randrange(len(bent) + 1)
            way = self._dice.randrange(6)
            if way == 0 and at < len(bent):
                bent[at] ^= 1 << self._dice.randrange(8)
            elif way == 1:
                del bent[at:]
            elif way == 2:
                bent[at:at] = self._dice.randbytes(self._dice.choice((1, 2, 40)))
            elif way == 3:
                bent[at:at] = self._dice.choice(
                    (b"\0", b"\xff", b"\xed\xa0\x80", b"\\ud800", b'"', b"{", b"]", b"\r\n", b"1e999", b"-")
                )
            elif way == 4:
                del bent[at : at + self._dice.randrange(1, 30)]
            else:
                end = at + self._dice.randrange(1, 60)
                bent[at:at] = bent[at:end] * self._dice.choice((1, 2, 50))
        return bytes(bent)


def _encoded(fields: Fields) -> str:
    return urlencode({name: str(value) for name, value in fields.items()}, errors="surrogatepass", quote_via=quote)


def _one_line(value: bytes) -> bytes:
    return value.translate(None, b"\r\n\0")
