"""RFC 9112's rules for a request where the parser is too lenient, and refusals as bytes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

#: The end of a head and of a chunked body.
END: Final = b"\r\n\r\n"
#: A name, an IPv4 address or a bracketed IPv6 address, and an optional port. May be empty (RFC 9112, 3.2).
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?")


def fault(method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The rule that a head breaks, as a sentence; empty when it breaks none.

    The parser has already checked that there is at most one content-length, in digits, and no coding beside it.
    """
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if method == b"CONNECT":
        return "this server is not a proxy"
    if version not in {"1.0", "1.1"}:
        return "only HTTP/1.1 and HTTP/1.0 are supported"
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return "a request must have exactly one Host header"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "a host must be a name or an address, with an optional port"
    if codings and (version == "1.0" or len(codings) > 1 or codings[0].lower() != b"chunked"):
        return "the only transfer coding supported is chunked"
    return ""


class Nowhere(list[tuple[bytes, bytes]]):
    """A header list that drops everything: for trailers, and for headers of refused requests."""

    def append(self, _: tuple[bytes, bytes], /) -> None:
        """Drop it."""


def straddling_end(data: bytes, at: int, tail: bytes) -> int:
    """The index after an empty line that began in ``tail`` (the last three bytes before ``data``), or 0."""
    found = (tail + data[at : at + 3]).find(END)
    return 0 if found < 0 else at + found + 4 - len(tail)


def head_without_upgrade(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request's head without its Upgrade header."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % pair for pair in headers if pair[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def refusal(status: int, common: bytes, retry_after_s: int, body: bytes) -> bytes:
    """A problem response that closes its connection. ``common`` are header lines, each with its CRLF."""
    retry = b"retry-after: %d\r\n" % retry_after_s if status == HTTPStatus.SERVICE_UNAVAILABLE else b""
    line = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
    about = b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    return line + common + retry + about + body
