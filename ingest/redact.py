"""Tokens cut out of whatever is kept or logged, by their shape, whatever field or form they came in.

A token is a JWT: base64url segments with dots between them, of which the first is a JSON object. It is found as it
stands, in percent-encoding (also twice), with JSON's, HTML's or quoted-printable's escapes, broken by blanks or line
ends, in UTF-16, and inside base64. What is packed cannot be looked through: ``is_packed`` says so.

Pure.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from typing import Final

#: Stands where a token was.
MARK: Final = b"..."
#: A byte that is written in some other way (groups 1 to 5), or what a reader skips.
_OTHER_BYTE: Final = re.compile(
    rb"%(?:25)*([0-9A-Fa-f]{2})|\\+(?:u00|x)([0-9A-Fa-f]{2})|&\#[xX]0*([0-9A-Fa-f]{1,2});|&\#0*([0-9]{1,3});"
    rb"|=([0-9A-F]{2})|\\+[nrt]|\\+(?=\s)|=(?=\r?\n)"
)
_OTHER_OR_BLANK: Final = re.compile(_OTHER_BYTE.pattern + rb"|[\x00\s]+")
#: A segment begins: `{` and a quote or a blank, in base64.
_BEGIN: Final = re.compile(rb"(?=(e[wy][A-Za-z0-9_-]{6}))")
_SEGMENTS: Final = re.compile(rb"[A-Za-z0-9_.-]{9,}")
_OBJECT: Final = re.compile(rb"\{\s*\"")
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-]{64,}(?:\r?\n[A-Za-z0-9+/_-]+)*")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
#: gzip, zip, zstd, bzip2, xz, lz4, zlib
_MAGIC: Final = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"\x04\x22\x4d\x18", b"\x78\x9c")


def redacted(raw: bytes) -> bytes:
    """The same with ``MARK`` where a token was."""
    spans: list[tuple[int, int]] = []
    # Most has none: that is seen without noting where each byte came from.
    if _tokens(_OTHER_BYTE.sub(_byte_of, raw).translate(None, b"\0 \t\n\r\v\f")):
        plain = _Plain(raw)
        spans = [plain.span(start, end) for start, end in _tokens(plain.text)]
    spans += [(found.start(), found.end()) for found in _RUN.finditer(raw) if _hides_token(found[0])]
    if not spans:
        return raw
    pieces, at = [], 0
    for start, end in sorted(spans):
        if start >= at:
            pieces += [raw[at:start], MARK]
        at = max(at, end)
    return b"".join([*pieces, raw[at:]])


def redacted_text(text: str) -> str:
    """The same for text."""
    raw = text.encode("utf-8", "surrogatepass")
    safe = redacted(raw)
    return text if safe is raw else safe.decode("utf-8", "replace")


def is_packed(raw: bytes) -> bool:
    """Whether these are the first bytes of something compressed."""
    return raw.startswith(_MAGIC)


class _Plain:
    """``text`` is what a lenient reader makes of the bytes; ``span`` says where a part of it stands in them."""

    def __init__(self, raw: bytes) -> None:
        pieces: list[bytes] = []
        #: where each stretch begins, in text and in raw, and for a byte that is written in another way, where it ends
        self._text_at: list[int] = []
        self._raw_at: list[tuple[int, int]] = []
        length = at = 0
        for unit in _OTHER_OR_BLANK.finditer(raw):
            start, end = unit.span()
            self._stretch(length, at, 0)
            pieces.append(raw[at:start])
            length += start - at
            if byte := _byte_of(unit):
                self._stretch(length, start, end)
                pieces.append(byte)
                length += 1
            at = end
        self._stretch(length, at, 0)
        self.text = b"".join([*pieces, raw[at:]])

    def _stretch(self, text_at: int, raw_at: int, raw_end: int) -> None:
        self._text_at.append(text_at)
        self._raw_at.append((raw_at, raw_end))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the bytes from ``start`` to before ``end`` of the text stand."""
        return self._byte(start)[0], self._byte(end - 1)[1]

    def _byte(self, at: int) -> tuple[int, int]:
        stretch = bisect_right(self._text_at, at) - 1
        raw_at, raw_end = self._raw_at[stretch]
        begins = raw_at + at - self._text_at[stretch]
        return begins, raw_end or begins + 1


def _byte_of(unit: re.Match[bytes]) -> bytes:
    """The byte that is written in another way, or nothing for what a reader skips."""
    hexadecimal = unit[1] or unit[2] or unit[3] or unit[5]
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    return bytes([min(int(unit[4]), 255)]) if unit[4] else b""


def _tokens(plain: bytes) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for run in _SEGMENTS.finditer(plain):
        last_dot = plain.rfind(b".", run.start(), run.end())
        for begin in _BEGIN.finditer(plain, run.start(), max(last_dot, run.start())):
            if _OBJECT.match(base64.urlsafe_b64decode(begin[1])):
                spans.append((begin.start(), run.end()))
                break
    return spans


def _hides_token(run: bytes) -> bool:
    """Whether a run of base64 holds a token, wherever in it the base64 begins."""
    run = run.translate(_TO_STANDARD, b"\r\n")
    for start in range(4):
        whole = len(run) - (len(run) - start) % 4
        if _tokens(base64.b64decode(run[start:whole])):
            return True
    return False
