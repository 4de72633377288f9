"""Parsing of a beacon's request in all the forms in which browsers and servers send it.

Pure: header lists, query strings and bodies in, values out. Every body is turned into JSON.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from ingest.admission.forms import FIELDS_MAX, multipart_pairs
from ingest.contract.click import UNREADABLE
from ingest.contract.rejection import Reason
from ingest.runtime.refusal import Refused

FORM: Final = b"application/x-www-form-urlencoded"
MULTIPART: Final = b"multipart/form-data"
NDJSON: Final = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl"})
JSON: Final = b"application/json"
COOKIE: Final = b"flattr_token"
#: Headers that decide something, so a request must not have two of them.
_DECIDE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"origin",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"x-flattr-gateway",
        b"x-flattr-member",
        b"x-flattr-site",
    }
)
#: The modes of a request by a page's own script, as opposed to an image, a frame or the address bar.
_SCRIPT_MODES: Final = frozenset({b"", b"cors", b"no-cors", b"same-origin"})
_PAGE_SITES: Final = frozenset({b"", b"same-origin", b"same-site", b"cross-site"})
_BOM: Final = b"\xef\xbb\xbf"
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*")
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_encoder = msgspec.json.Encoder()


class Request:
    """Method, path and headers; properties are computed when they are read.

    ``address`` is the client whose share of the process the request counts against (ingest/runtime/client_address.py).
    """

    __slots__ = ("_headers", "_twice", "address", "method", "path", "query")

    def __init__(
        self, method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], address: str = ""
    ) -> None:
        self.address = address
        self.method = method
        self.path = path
        self.query = query
        self._headers = dict(headers)
        self._twice = b""
        if len(headers) != len(self._headers):
            self._join(headers)

    def _join(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Note repeated headers, and join cookies, which HTTP/2 may split (RFC 9113, 8.2.3)."""
        names = set()
        for name, _ in headers:
            if name in names and name in _DECIDE:
                self._twice = name
            names.add(name)
        if b"cookie" in names:
            self._headers[b"cookie"] = b"; ".join([value for name, value in headers if name == b"cookie"])

    def check(self) -> None:
        """Raise ``Refused`` when a deciding header comes twice: proxies disagree on which one counts."""
        if self._twice:
            raise Refused(Reason.HTTP_MALFORMED, f"the header {self._twice.decode()} comes twice")

    @property
    def bearer(self) -> bytes:
        """The token of the Authorization header, or empty."""
        value = self._headers.get(b"authorization", b"")
        return value[7:].strip() if value[:7].lower() == b"bearer " else b""

    @property
    def cookie(self) -> bytes:
        """The token in our cookie, or empty. Raises ``Refused`` when there are two different ones."""
        found = set()
        for pair in self._headers.get(b"cookie", b"").split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == COOKIE and (value := value.strip(b'"')):
                found.add(value)
        # Another host of the same domain can set a second cookie: the order must not decide whose click this is.
        if len(found) > 1:
            raise Refused(Reason.TOKEN_INVALID, f"two cookies named {COOKIE.decode()}")
        return found.pop() if found else b""

    @property
    def from_script(self) -> bool:
        """Whether the fetch metadata, if present, say that a script, or a form within the same site, sent this."""
        site = self._headers.get(b"sec-fetch-site", b"")
        mode = self._headers.get(b"sec-fetch-mode", b"")
        kind = self._headers.get(b"sec-fetch-dest", b"")
        if mode == b"navigate":
            return site in (b"same-origin", b"same-site") and kind in (b"", b"document")
        return site in _PAGE_SITES and mode in _SCRIPT_MODES and kind in (b"", b"empty")

    @property
    def media_type(self) -> bytes:
        """The content type without its parameters, in lower case."""
        return self._headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    @property
    def wants_page(self) -> bool:
        """Whether a reader sent this as a form and now looks at the answer: scripts and programs want JSON."""
        return b"text/html" in self._headers.get(b"accept", b"") and self.media_type in (FORM, MULTIPART)

    @property
    def length(self) -> int:
        """The announced length of the body, in bytes; 0 when none was. The server has checked that it is a number."""
        return int(self._headers.get(b"content-length", b"0"))

    @property
    def encoding(self) -> bytes:
        """The content encoding, in lower case."""
        return self._headers.get(b"content-encoding", b"").strip().lower()

    @property
    def origin(self) -> str:
        """The origin of the page that sent this, or empty. Set by the browser; pages cannot forge it."""
        return self._headers.get(b"origin", b"").decode("latin-1").lower()

    @property
    def referer(self) -> str:
        """The origin of the page that shows an image, if the browser tells. Used only to refuse, never to admit."""
        if b"referer" not in self._headers:
            return ""
        found = _ORIGIN.match(self._headers[b"referer"].decode("latin-1").lower())
        return found[0] if found else "null"

    @property
    def cross_origin(self) -> bool:
        """Whether this is a CORS request."""
        return b"origin" in self._headers

    @property
    def site_key(self) -> str:
        """The site's key, from its header or from ``?site=``, as sendBeacon cannot set headers. Raises ``Refused``."""
        key = self._headers.get(b"x-flattr-site")
        if key is None and self.query:
            return _by_name((name, value) for name, value in _pairs(self.query) if name == "site").get("site", "")
        return (key or b"").decode("latin-1")

    def header(self, name: bytes) -> bytes:
        """The value of any header, or empty."""
        return self._headers.get(name, b"")

    def unpacked(self, body: bytes, max_bytes: int) -> bytes:
        """The body, decompressed if it is gzip, to at most ``max_bytes``. Raises ``Refused``."""
        if self.encoding in (b"", b"identity"):
            return body
        if self.encoding not in (b"gzip", b"x-gzip"):
            raise Refused(Reason.ENCODING_UNSUPPORTED, "the only content encoding supported is gzip")
        unpacker = zlib.decompressobj(wbits=31)
        try:
            plain = unpacker.decompress(body, max_bytes)
        except zlib.error:
            raise Refused(Reason.ENCODING_BROKEN, "the body is not gzip") from None
        if unpacker.unconsumed_tail or unpacker.unused_data:
            raise Refused(Reason.BODY_TOO_LARGE, f"a body may have at most {max_bytes} bytes after decompression")
        if not unpacker.eof:
            raise Refused(Reason.ENCODING_BROKEN, "the gzip stream is truncated")
        return plain

    def as_json(self, body: bytes) -> tuple[bytes, bytes]:
        """The body and its media type, with a form turned into a JSON object. Raises ``Refused``."""
        media_type = self.media_type
        # Windows editors and some exporters begin UTF-8 with a byte order mark.
        if body[:1] >= b"\xef":
            body = _unmarked(body)
        # curl -d labels everything a form; a real form cannot begin with a brace, since braces are encoded there.
        if media_type == FORM and body[:1] in (b"{", b"["):
            return body, JSON
        if media_type == FORM:
            return _object(_pairs(body)), JSON
        if media_type == MULTIPART:
            return _object(multipart_pairs(body, self._headers[b"content-type"])), JSON
        if media_type in NDJSON and b"\n" + _BOM in body:
            body = body.replace(b"\n" + _BOM, b"\n")  # concatenated files, each with its mark
        return body, media_type

    def query_as_json(self) -> bytes:
        """The query of a pixel as a JSON object, without the site's key. Raises ``Refused``."""
        return _object((name, value) for name, value in _pairs(self.query) if name != "site")


class _Carrier(msgspec.Struct, gc=False):
    token: str | None = None


_one = msgspec.json.Decoder(_Carrier)
_many = msgspec.json.Decoder(list[_Carrier])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
#: How many items are searched one by one: anybody may send half a megabyte of broken ones.
_SEARCHED_MAX: Final = 1000


def body_token(body: bytes, media_type: bytes) -> bytes:
    """The token inside a JSON body. Raises ``Refused`` when its items carry different ones.

    Empty when there is none, or when the body cannot be parsed.
    """
    if b'"token"' not in body:
        return b""
    try:
        if media_type in NDJSON:
            carriers = _one.decode_lines(body)
        elif body.lstrip()[:1] == b"[":
            carriers = _many.decode(body)
        else:
            carriers = [_one.decode(body)]
    except UNREADABLE:
        carriers = list(_readable(body, media_type))
    tokens = {carrier.token for carrier in carriers if carrier.token}
    if len(tokens) > 1:
        raise Refused(
            Reason.TOKEN_INVALID, "the items of one request carry different tokens: send one request per member"
        )
    return tokens.pop().encode("utf-8", "replace") if tokens else b""


def _readable(body: bytes, media_type: bytes) -> Iterator[_Carrier]:
    """The items that can be read, when one cannot: that one gets a verdict of its own, and spoils no other."""
    try:
        raws = body.split(b"\n", _SEARCHED_MAX) if media_type in NDJSON else _raws.decode(body)
    except UNREADABLE:
        return
    for raw in islice(raws, _SEARCHED_MAX):
        try:
            yield _one.decode(raw)
        except UNREADABLE:
            continue


def _unmarked(body: bytes) -> bytes:
    if body.startswith(_UTF_16):
        raise Refused(Reason.JSON_MALFORMED, "the body is UTF-16: send UTF-8")
    return body.removeprefix(_BOM)


def _pairs(text: bytes) -> list[tuple[str, str]]:
    if text.count(b"&") >= FIELDS_MAX:
        raise Refused(Reason.BODY_TOO_LARGE, f"a form has at most {FIELDS_MAX} fields")
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Refused(Reason.JSON_MALFORMED, "not UTF-8") from None
    # A percent-encoded byte order mark.
    return [(name.removeprefix("\ufeff"), value) for name, value in pairs]


def _object(pairs: Iterable[tuple[str, str]]) -> bytes:
    """A form as a JSON object. Numeric fields become numbers; empty fields are left out. Raises ``Refused``."""
    fields = _by_name((name, value) for name, value in pairs if value)
    if not fields:
        raise Refused(Reason.BODY_EMPTY, "the form is empty")
    return _encoder.encode({name: _number_or_text(name, value) for name, value in fields.items()})


def _number_or_text(name: str, value: str) -> int | str:
    numeric = name in ("v", "clicked_at", "sent_at") and value.isascii() and value.isdigit() and len(value) < 19
    return int(value) if numeric else value


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The value of each field. Raises ``Refused`` for two different ones: the order must not decide who is paid."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if fields.setdefault(name, value) != value:
            raise Refused(Reason.JSON_MALFORMED, f"the field {name[:64]!r} comes twice, with different values")
    return fields
