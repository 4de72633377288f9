"""A corpus of hostile requests: what the open Internet sends, and what somebody would who means it.

Each is (name, headers, body); a header None takes the good one away. ``{token}`` stands for a good token.
"""

# ruff: noqa: E501 - a corpus is read by its rows, however long

from __future__ import annotations

import base64
import gzip
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

GOOD: dict[str, Any] = {"creator_id": "bob", "thing": "https://example.org/a"}
JSON = json.dumps(GOOD).encode()


_NO_TIMES: list[Any] = [
    True, -1, 1.5, 1e12, 1e308, 1 << 43, 10**30, 2**63, -(2**63), "", "\0", "x" * 100_000, [], {}, "0",
    "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2248-09-26T15:10:22.208Z",
]  # fmt: skip


class Hostile(NamedTuple):
    name: str
    body: bytes
    headers: Mapping[str, str | None] = MappingProxyType({})
    path: str = "/v1/clicks"
    method: str = "POST"


def corpus() -> list[Hostile]:
    """All of it; no name twice."""
    found = list(itertools.chain(broken_json(), wrong_values(), bodies(), tokens(), forms(), packed(), paths()))
    assert len({one.name for one in found}) == len(found)
    return found


def broken_json() -> Iterator[Hostile]:
    """JSON cut at each byte, and what only looks like it."""
    for at in range(1, len(JSON)):
        yield Hostile(f"cut at {at}", JSON[:at])
    texts = [
        b"nul", b"NaN", b"Infinity", b"-", b"+1", b"01", b"1e", b"'a'", b"{'a':1}", b"{a:1}", b"[1,]", b'{"a":1,}',
        b"//x\n{}", b"/**/{}", b"\xef\xbb\xbf{}", b"\x00", b"{}\x00", b"\xff\xfe{\x00}\x00", b'{"a"}', b'{"a":}', b"}{",
        b'"\\u12"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x41"', b'"\n"', b'"\t"', b"{}{}", b"[]]", b"\x1b[31m",
    ]  # fmt: skip
    for text in texts:
        yield Hostile(f"text {text!r}", text)
    for utf8 in (
        b"\xff",
        b"\xc0\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x92",
        b"\xf5\x80\x80\x80",
        b"\x80",
    ):
        yield Hostile(f"no UTF-8 {utf8!r}", b'{"creator_id":"bob","thing":"' + utf8 + b'"}')
        yield Hostile(f"no UTF-8 in a name {utf8!r}", b'{"' + utf8 + b'":1,"thing":"x","creator_id":"bob"}')
    for opening, count in itertools.product((b"[", b'{"x_a":', b'[{"x_a":['), (64, 1100, 50_000)):
        yield Hostile(f"{count} deep {opening!r}", opening * count)
        yield Hostile(f"{count} deep {opening!r} in a field", b'{"x_a":' + opening * count)
    yield Hostile("closed nesting", b"[" * 500 + b"]" * 500)
    yield Hostile("a thousand keys", json.dumps({f"x_{n}": n for n in range(1000)} | {"v": 9}).encode())
    yield Hostile("a thousand unknown keys", json.dumps({f"k{n}": n for n in range(1000)} | GOOD).encode())
    yield Hostile("the same key often", b'{"v":1,' * 1 + b'"thing":"a",' * 5000 + b'"creator_id":7}')


def wrong_values() -> Iterator[Hostile]:
    """Every field with everything that it is not."""
    values: list[Any] = [
        None, True, False, 0, -1, 1.5, 1e308, 10**30, 2**63, -(2**63), "", " ", "\0", "a\0b", "\n", "\x7f", "\u202e",
        "\ufeff", "a b", "x" * 65, "x" * 100_000, [], [1], {}, {"a": 1}, "null", "../../etc/passwd", "'; DROP TABLE x;--",
        "{{7*7}}", "%00", "${jndi:ldap://x}", "<script>alert(1)</script>", "=1+1",
    ]  # fmt: skip
    always_wrong = {
        "v": values,
        "click_id": [value for value in values if value is not None],
        "action": values,
        "creator_id": [
            None,
            True,
            0,
            1.5,
            "",
            " ",
            "\0",
            "a b",
            "\n",
            "\u202e",
            "x" * 65,
            "x" * 100_000,
            [],
            {},
            "ann",
        ],
        "thing": [
            None,
            True,
            0,
            1.5,
            "",
            " ",
            "\0",
            "a\0b",
            "\n",
            "\x7f",
            "x" * 100_000,
            [],
            {},
            "http://",
            "https://[",
        ],
        "member_id": [value for value in values if value is not None],
        "site_id": [True, 0, 1.5, "", " ", "\0", "a b", "\n", "\u202e", "x" * 65, [], {}],
        "clicked_at": _NO_TIMES,
        "sent_at": _NO_TIMES,
    }
    for field, wrong in always_wrong.items():
        for number, value in enumerate(wrong):
            yield Hostile(f"{field} number {number}", json.dumps({**GOOD, field: value}).encode())
    for thing in (
        "http://a:b:c/",
        "http://[::/",
        "https://\u202e/",
        "http://x:99999/",
        "http://a b/",
        "https://%zz/",
    ):
        yield Hostile(f"thing {thing}", json.dumps({**GOOD, "thing": thing}).encode())


def bodies() -> Iterator[Hostile]:
    """Lengths and batches."""
    yield Hostile("empty", b"")
    yield Hostile("blanks", b" \r\n\t" * 1000)
    yield Hostile("zeros", b"\0" * 10_000)
    yield Hostile("noise", bytes(range(256)) * 100)
    yield Hostile("over the cap", b'{"x_a":"' + b"a" * 600_000 + b'"}')
    yield Hostile("just a long string", b'"' + b"a" * 500_000 + b'"')
    yield Hostile("1001 clicks", json.dumps([GOOD] * 1001).encode())
    yield Hostile("a hundred thousand numbers", json.dumps([1] * 100_000).encode())
    yield Hostile("a thousand bad items", json.dumps([{}] * 1000).encode())
    yield Hostile("1001 lines", (JSON + b"\n") * 1001, {"content-type": "application/x-ndjson"})
    yield Hostile("a thousand bad lines", b"{\n" * 1000, {"content-type": "application/x-ndjson"})
    yield Hostile("lines of zeros", b"\0\n\0\n", {"content-type": "application/x-ndjson"})
    yield Hostile("an array of arrays", b"[[[]]]")
    yield Hostile("an array of nothing", b"[,,,]")


def tokens() -> Iterator[Hostile]:
    """Forged, expired, of nobody."""

    def part(value: object) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = part({"sub": "ann", "aud": "flattr", "exp": 9_999_999_999})
    algorithms: tuple[Any, ...] = (
        "none",
        "None",
        "NONE",
        "nOnE",
        "HS256",
        "HS512",
        "RS256",
        "ES256",
        "EdDSA",
        "",
        "\0",
        None,
        1,
        [],
        {},
    )
    for alg in algorithms:
        for kid in ("first", "../../dev/null", "' OR 1=1", "", None, 1):
            yield Hostile(
                f"alg {alg!r} kid {kid!r}",
                JSON,
                {"authorization": f"Bearer {part({'alg': alg, 'kid': kid})}.{claims}."},
            )
    for number, token in enumerate(
        ["", ".", "..", "...", "a.b.c", "A" * 10_000, "=.=.=", part(b"\xff") + ".a.b", part(b"[]") + ".a.b", part(b"{}") + ".a.b",
         part({"alg": "HS256", "kid": "first", "crit": ["x"]}) + "." + claims + ".x", part(b"{" * 5000) + ".a.b"]
    ):  # fmt: skip
        yield Hostile(f"token {number}", JSON, {"authorization": f"Bearer {token}"})
        yield Hostile(
            f"token {number} in the body", json.dumps({**GOOD, "token": token}).encode(), {"authorization": None}
        )
    for number, header in enumerate(
        ["Basic YTpi", "Bearer", "bearer", "Digest x", "{token}", "Token {token}", "Bearer\t"]
    ):
        yield Hostile(f"authorization {number}", JSON, {"authorization": header})
    yield Hostile("a cookie alone", JSON, {"authorization": None, "cookie": "flattr_token={token}"})
    yield Hostile(
        "a gateway that is none", JSON, {"authorization": None, "x-flattr-gateway": "x", "x-flattr-member": "ann"}
    )
    no_tokens: tuple[Any, ...] = (7, [], {}, None, True)
    for value in no_tokens:
        yield Hostile(
            f"token in the body as {value!r}", json.dumps({**GOOD, "token": value}).encode(), {"authorization": None}
        )


def forms() -> Iterator[Hostile]:
    """Forms that are none."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    for number, body in enumerate(
        [b"", b"&", b"=", b"a", b"a=b", b"%", b"%zz=%zz", b"thing=%00&creator_id=bob", b"thing=%ff&creator_id=bob", b"a=b&" * 5000,
         b"creator_id=bob", b"thing=x", b"v=2&thing=x&creator_id=bob", b"v=99999999999999999999&thing=x&creator_id=bob"]
    ):  # fmt: skip
        yield Hostile(f"form {number}", body, form)
    for number, (boundary, body) in enumerate(
        [("", b""), ("x", b""), ("x", b"--x--"), ("x", b"--x\r\n\r\n--x--"), ("x", b"--x\r\n" * 5000), ('"', b"--"), ("x" * 500, b"--x"),
         ("x", b'--x\r\ncontent-disposition: form-data; name="thing"\r\n\r\n\xff\r\n--x--'),
         ("x", b'--x\r\ncontent-disposition: form-data; name="' + b"a" * 5000 + b'"\r\n\r\nx\r\n--x--')]
    ):  # fmt: skip
        yield Hostile(f"multipart {number}", body, {"content-type": f"multipart/form-data; boundary={boundary}"})


def packed() -> Iterator[Hostile]:
    """Bodies that blow up, or are not what they say."""
    gz = {"content-encoding": "gzip"}
    yield Hostile("bomb", gzip.compress(b"\0" * 200_000_000), gz)
    yield Hostile("bomb in a bomb", gzip.compress(gzip.compress(b"\0" * 200_000_000)), gz)
    yield Hostile("cut gzip", gzip.compress(JSON)[:-5], gz)
    yield Hostile("wrong crc", gzip.compress(JSON)[:-8] + b"\0" * 8, gz)
    yield Hostile("no gzip", JSON, gz)
    yield Hostile("empty gzip", b"", gz)
    yield Hostile("gzip of nothing", gzip.compress(b""), gz)
    yield Hostile("zlib called gzip", zlib.compress(JSON), gz)
    yield Hostile("two members", gzip.compress(JSON) * 2, gz)
    for encoding in ("br", "deflate", "zstd", "gzip, gzip", "x" * 1000, "\x7f"):
        yield Hostile(f"encoding {encoding[:20]!r}", JSON, {"content-encoding": encoding})


def paths() -> Iterator[Hostile]:
    """Methods, pixels and queries."""
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        yield Hostile(f"{method} clicks", b"", method=method)
    for method in ("POST", "PUT", "DELETE"):
        yield Hostile(f"{method} pixel", b"", path="/v1/click.gif", method=method)
    for number, query in enumerate(
        ["", "?", "?a", "?thing=x", "?creator_id=bob&thing=%ff", "?creator_id=bob&thing=%00", "?" + "a=b&" * 200,
         "?token={token}", "?v=2&creator_id=bob&thing=x", "?creator_id=ann&thing=x", "?thing=" + "x" * 3000]
    ):  # fmt: skip
        yield Hostile(f"pixel {number}", b"", path=f"/v1/click.gif{query}", method="GET")
