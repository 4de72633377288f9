"""Bounded parsing of multipart/form-data as browsers, .NET and akka write it (names quoted or not). Pure."""

from __future__ import annotations

import logging
import re
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest.contract.rejection import Reason
from ingest.runtime.refusal import Refused

FIELDS_MAX: Final = 32
_BOUNDARY_MAX_BYTES: Final = 70
_HEADERS_MAX: Final = 8
_HEADER_MAX_BYTES: Final = 1024
_CHARSETS: Final = {b"": "utf-8", b"utf-8": "utf-8", b"utf8": "utf-8", b"us-ascii": "ascii", b"iso-8859-1": "latin-1"}
#: Transfer encodings that leave the data as they are.
_PLAIN: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})

# The parser logs a warning for each broken form, so strangers could flood our log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class _Fields:
    """Collects what the parser calls back with."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._data: list[bytes] = []
        self.whole = False

    def begin(self) -> None:
        if len(self.pairs) >= FIELDS_MAX:
            raise Refused(Reason.BODY_TOO_LARGE, f"a form has at most {FIELDS_MAX} fields")
        self._headers = {}
        self._data = []

    def header_begin(self) -> None:
        self._name = self._value = b""

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value

    def data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name")
        if not name:
            raise Refused(Reason.JSON_MALFORMED, "a part of the form has no name")
        kind, parameters = parse_options_header(self._headers.get(b"content-type"))
        charset = _CHARSETS.get(parameters.get(b"charset", b"").strip(b"\"'").lower())
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if charset is None or encoding not in _PLAIN or kind.startswith(b"multipart/"):
            raise Refused(Reason.JSON_MALFORMED, "a part of a form must be plain UTF-8 text")
        self.pairs.append((name.decode(), b"".join(self._data).decode(charset)))

    def finish(self) -> None:
        self.whole = True


def multipart_pairs(body: bytes, content_type: bytes) -> list[tuple[str, str]]:
    """Name and value of each field, as text; a file's value is its content. No nesting. Raises ``Refused``."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _BOUNDARY_MAX_BYTES:
        raise Refused(Reason.JSON_MALFORMED, "multipart/form-data needs a boundary")
    bare = b"\r\n" not in body
    if bare:
        body = body.replace(b"\n", b"\r\n")
    # Whitespace may follow a delimiter (RFC 2046, 5.1.1); the parser does not accept it.
    body = re.sub(rb"((?:^|\r\n)--" + re.escape(boundary) + rb"(?:--)?)[ \t]+(?=\r\n)", rb"\1", body)
    fields = _Fields()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": fields.begin,
            "on_header_begin": fields.header_begin,
            "on_header_field": fields.header_name,
            "on_header_value": fields.header_value,
            "on_header_end": fields.header_end,
            "on_part_data": fields.data,
            "on_part_end": fields.end,
            "on_end": fields.finish,
        },
        max_header_count=_HEADERS_MAX,
        max_header_size=_HEADER_MAX_BYTES,
    )
    try:
        parser.write(_without_preamble(body, b"--" + boundary))
    except (FormParserError, UnicodeDecodeError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:200]
        raise Refused(Reason.JSON_MALFORMED, f"the body is not valid multipart/form-data: {why}") from None
    if not fields.whole:
        raise Refused(Reason.JSON_MALFORMED, "the form is truncated")
    if bare:
        return [(name, value.replace("\r\n", "\n")) for name, value in fields.pairs]
    return fields.pairs


def _without_preamble(body: bytes, delimiter: bytes) -> bytes:
    """The body from its first delimiter on: the preamble before it is for human readers."""
    if body.startswith(delimiter):
        return body
    at = body.find(b"\r\n" + delimiter)
    return body[at + 2 :] if at >= 0 else body
