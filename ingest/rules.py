"""What RFC 9112 asks of a request, where the parser is more lenient; and how a refusal reads on the wire. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

#: What ends a head, and chunks.
END: Final = b"\r\n\r\n"
#: A name or an IPv4 address, or an IPv6 one in brackets; a port. May be empty (RFC 9112, 3.2).
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?")


class Framing:
    """What the headers of a request say about the request itself."""

    __slots__ = ("coding", "expects", "hosts", "is_old", "length")

    #: The headers that say it.
    NAMES: Final = frozenset({b"host", b"expect", b"content-length", b"transfer-encoding"})

    def __init__(self) -> None:
        self.hosts = 0
        self.length = 0
        self.coding = b""
        self.expects = False
        self.is_old = False

    def note(self, name: bytes, value: bytes) -> None:
        """One of ``NAMES``. A length is digits: the parser sees to that, and that there is one, and no coding then."""
        if name == b"host":
            self.hosts += 1 if _HOST.fullmatch(value) else 2
        elif name == b"content-length":
            self.length = int(value)
        elif name == b"transfer-encoding":
            self.coding = value.lower()
        elif value.lower() == b"100-continue":
            self.expects = True

    def fault(self, method: bytes, version: str) -> str:
        """Which rule the head breaks, as a sentence; nothing when it breaks none."""
        self.is_old = version == "1.0"
        if method == b"CONNECT":
            return "this is no proxy"
        if version not in {"1.1", "1.0"}:
            return "HTTP/1.1 is spoken here"
        if self.hosts != 1 and (self.hosts or not self.is_old):
            return "a request names one host"
        if self.coding and (self.coding != b"chunked" or self.is_old):
            return "the only transfer coding is chunked"
        return ""


def end_of_piece(data: bytes, at: int, left: int, tail: bytes) -> int:
    """As far as the message at ``at`` can reach in ``data``.

    Of a body with a length, ``left`` bytes are to come. Heads and chunks end with an empty line, which may have begun
    in ``tail``, up to three bytes that came before.
    """
    if left:
        return min(len(data), at + left)
    if tail:
        found = (tail + data[at : at + 3]).find(END)
        if found >= 0:
            return at + found + 4 - len(tail)
    found = data.find(END, at)
    return len(data) if found < 0 else found + 4


def tail_of(tail: bytes, piece: bytes) -> bytes:
    """The bytes with which an empty line may begin that the next ones end."""
    return b"" if piece.endswith(END) else (tail + piece[-3:])[-3:]


def head_without_upgrade(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The same request, staying with HTTP/1.1."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % pair for pair in headers if pair[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def refusal(status: int, common: bytes, retry_after_s: int, body: bytes) -> bytes:
    """A problem document that ends its connection. ``common`` are headers, each with its line's end."""
    retry = b"retry-after: %d\r\n" % retry_after_s if status == HTTPStatus.SERVICE_UNAVAILABLE else b""
    line = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
    about = b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    return line + common + retry + about + body
