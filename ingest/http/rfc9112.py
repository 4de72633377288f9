"""What RFC 9112 asks of a request, where the parser is more lenient; and how a refusal reads on the wire. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

#: What ends a head, and chunks.
END: Final = b"\r\n\r\n"
#: A name or an IPv4 address, or an IPv6 one in brackets; a port. May be empty (RFC 9112, 3.2).
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?")


def fault(method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Which rule a head breaks, as a sentence; nothing when it breaks none.

    The parser has seen to it that a length is one, in digits, and without a coding beside it.
    """
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if method == b"CONNECT":
        return "this is no proxy"
    if version not in {"1.0", "1.1"}:
        return "HTTP/1.1 is spoken here"
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return "a request names one host"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "a host is a name or an address, and a port"
    if codings and (version == "1.0" or len(codings) > 1 or codings[0].lower() != b"chunked"):
        return "the only transfer coding is chunked"
    return ""


class Nowhere(list[tuple[bytes, bytes]]):
    """Where trailers go, and headers of what was refused."""

    def append(self, _: tuple[bytes, bytes], /) -> None:
        """Keep nothing."""


def straddling_end(data: bytes, at: int, tail: bytes) -> int:
    """Behind the empty line that began in ``tail``, up to three bytes that came before; 0 when none did."""
    found = (tail + data[at : at + 3]).find(END)
    return 0 if found < 0 else at + found + 4 - len(tail)


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
