"""Removal of tokens from whatever is stored or logged: they are found by their shape, in any field or encoding.

A token is a JWT: base64url segments joined by dots, the first of which is a JSON object. It is found in plain text,
percent-encoded (also twice), with the escapes of JSON, HTML, C or quoted-printable, broken by whitespace, in UTF-16,
and inside base64 or hexadecimal. If no dot follows the first segment, the rest may be anywhere, as in a JWS in JSON:
then everything that is long enough to be a segment is removed. Compressed data cannot be searched; ``is_packed``
recognises them.

Pure.
"""

from __future__ import annotations

import base64
import re
import sys
from bisect import bisect_right
from typing import Final

#: Replaces a token.
MARK: Final = b"..."
#: An escaped byte (the groups), or something that a reader skips. Backslashes are bounded: in a long run of them,
#: every one could begin a match, and the search would take quadratic time.
_OTHER_BYTE: Final = re.compile(
    rb"(?:%(?:25)*(?:u00)?|\\{1,8}(?:u00|x)|=)(?P<hex>[0-9A-Fa-f]{2})|\\{1,8}u\{0*(?P<braced>[0-9A-Fa-f]{1,2})\}"
    rb"|&\#[xX]0*(?P<html>[0-9A-Fa-f]{1,2});?|&\#0*(?P<decimal>[0-9]{1,3});?|\\{1,8}(?P<octal>[0-3][0-7]{2})"
    rb"|\\{1,8}[nrt]|\\{1,8}(?=\s)|=(?=\r?\n)"
)
_BASES: Final[dict[str | None, int]] = {"decimal": 10, "octal": 8}
_OTHER_OR_BLANK: Final = re.compile(_OTHER_BYTE.pattern + rb"|[\x00\s]+")
_BLANKS: Final = b"\0 \t\n\r\v\f"
#: The start of a first segment: `{` and a quote or a blank, in base64.
_BEGIN: Final = re.compile(rb"(?=(e[wy][A-Za-z0-9_-]{6}))")
_SEGMENTS: Final = re.compile(rb"[A-Za-z0-9_.-]{9,}")
_OBJECT: Final = re.compile(rb"\{\s*\"")
#: A first segment, whatever follows it; and what may be another segment.
_FIRST: Final = re.compile(rb"e[wy][A-Za-z0-9_-]{14,}")
_PIECE: Final = re.compile(rb"[A-Za-z0-9_-]{20,}")
_UUID: Final = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-]{64,}(?:\r?\n[A-Za-z0-9+/_-]+)*")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{64,}")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
#: Signatures at the beginning: gzip, bzip2, and zlib of any level.
_BEGINNINGS: Final = (b"\x1f\x8b", b"BZh", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
#: Signatures anywhere, as no text contains them: gzip, zip, zstd, xz and lz4.
_PACKED: Final = re.compile(rb"\x1f\x8b\x08|PK\x03\x04|\x28\xb5\x2f\xfd|\xfd7zXZ|\x04\x22\x4d\x18")


def redacted(raw: bytes) -> bytes:
    """The input with every token replaced by ``MARK``; the same object if there is none."""
    spans: list[tuple[int, int]] = []
    # Most input has none; finding that out needs no record of where each byte came from.
    if _hidden(_OTHER_BYTE.sub(_byte_of, raw).translate(None, _BLANKS)):
        plain = _Plain(raw)
        spans = [plain.span(start, end) for start, end in _hidden(plain.text)]
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
    """``redacted`` for text."""
    raw = text.encode("utf-8", "surrogatepass")
    safe = redacted(raw)
    return text if safe is raw else safe.decode("utf-8", "replace")


def is_packed(raw: bytes) -> bool:
    """Whether these bytes are, or contain, compressed data."""
    return raw.startswith(_BEGINNINGS) or _PACKED.search(raw) is not None


class _Plain:
    """``text`` is the input as a lenient reader decodes it; ``span`` maps a part of it back to the input."""

    def __init__(self, raw: bytes) -> None:
        pieces: list[bytes] = []
        #: Where each stretch begins in text, and in raw; for an escaped byte also where it ends in raw.
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
        """Where ``text[start:end]`` stands in the input, as start and end."""
        return self._byte(start)[0], self._byte(end - 1)[1]

    def _byte(self, at: int) -> tuple[int, int]:
        stretch = bisect_right(self._text_at, at) - 1
        raw_at, raw_end = self._raw_at[stretch]
        begins = raw_at + at - self._text_at[stretch]
        return begins, raw_end or begins + 1


def _byte_of(unit: re.Match[bytes]) -> bytes:
    """The byte that an escape stands for, or nothing for what a reader skips."""
    if unit.lastgroup is None:
        return b""
    return bytes([min(int(unit[unit.lastgroup], _BASES.get(unit.lastgroup, 16)), 255)])


def _hidden(plain: bytes) -> list[tuple[int, int]]:
    """The spans of tokens: whole, inside base64, or as separate segments."""
    spans = _tokens(plain)
    spans += [found.span() for found in _RUN.finditer(plain) if _hides_token(found[0])]
    whole = [span for span in _tokens(plain) if plain[slice(*span)].count(b".") > 1 and plain[span[1] - 1] != ord(".")]
    firsts = (found for found in _FIRST.finditer(plain) if not _lies_in(found.start(), whole))
    if any(_names_algorithm(found[0]) for found in firsts):
        spans += [found.span() for found in _PIECE.finditer(plain) if not _UUID.fullmatch(found[0])]
    return spans


def _lies_in(at: int, spans: list[tuple[int, int]]) -> bool:
    """Whether an index lies within one of the sorted spans."""
    before = bisect_right(spans, (at, sys.maxsize)) - 1
    return before >= 0 and at < spans[before][1]


def _names_algorithm(segment: bytes) -> bool:
    """Whether this is the first segment of a token, or most of one."""
    return b'"alg"' in base64.urlsafe_b64decode(segment[: len(segment) // 4 * 4])


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
    """Whether a run of base64 or hexadecimal holds a token at any alignment, or compressed data."""
    run = run.translate(_TO_STANDARD, b"\r\n")
    for start in range(4):
        whole = len(run) - (len(run) - start) % 4
        plain = base64.b64decode(run[start:whole])
        if _tokens(plain) or _PACKED.search(plain):
            return True
    return any(_tokens(_from_hex(digits[start:])) for digits in _HEX.findall(run) for start in (0, 1))


def _from_hex(digits: bytes) -> bytes:
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
