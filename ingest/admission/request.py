"""What a beacon's request says, in all the forms in which browsers and servers send one.

Pure: header lists, query strings and bodies in, values out. A body ends up as JSON whatever it came as.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ingest.admission.forms import FIELDS_MAX, multipart_pairs
from ingest.admission.refusal import Refused
from ingest.contract.click import UNREADABLE
from ingest.contract.rejection import Reason

FORM: Final = b"application/x-www-form-urlencoded"
MULTIPART: Final = b"multipart/form-data"
NDJSON: Final = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl"})
JSON: Final = b"application/json"
COOKIE: Final = b"flattr_token"
#: Headers of which only one can be meant.
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
#: What a page's own script sends: never an image, a frame, or the address bar.
_SCRIPT_MODES: Final = frozenset({b"", b"cors", b"no-cors", b"same-origin"})
_PAGE_SITES: Final = frozenset({b"", b"same-origin", b"same-site", b"cross-site"})
_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_encoder = msgspec.json.Encoder()


class Request:
    """Method, path and the headers that matter, read when they are asked for.

    ``address`` names whose share of the process it counts against (ingest/runtime/client_address.py).
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
        """Put together the cookies, which HTTP/2 splits into headers of their own (RFC 9113, 8.2.3)."""
        names = set()
        for name, _ in headers:
            if name in names and name in _DECIDE:
                self._twice = name
            names.add(name)
        if b"cookie" in names:
            self._headers[b"cookie"] = b"; ".join([value for name, value in headers if name == b"cookie"])

    def check(self) -> None:
        """Raise ``Refused`` when a header that decides comes twice: proxies do not agree on which counts."""
        if self._twice:
            raise Refused(Reason.HTTP_MALFORMED, f"two headers {self._twice.decode()}")

    @property
    def bearer(self) -> bytes:
        """The token of the Authorization header, or nothing."""
        value = self._headers.get(b"authorization", b"")
        return value[7:].strip() if value[:7].lower() == b"bearer " else b""

    @property
    def cookie(self) -> bytes:
        """The token that the browser keeps for us, or nothing. Raises ``Refused`` when it keeps two."""
        found = set()
        for pair in self._headers.get(b"cookie", b"").split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == COOKIE and (value := value.strip(b'"')):
                found.add(value)
        # Another host of the same domain can set one beside it: whose click it is must not depend on the order.
        if len(found) > 1:
            raise Refused(Reason.TOKEN_INVALID, f"two cookies named {COOKIE.decode()}")
        return found.pop() if found else b""

    @property
    def from_script(self) -> bool:
        """Whether the browser, if it says, says that a page sent this by script, or by a form within its own site."""
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
    def length(self) -> int:
        """The announced length of the body; 0 when none was. The server has checked that it is a number."""
        return int(self._headers.get(b"content-length", b"0"))

    @property
    def encoding(self) -> bytes:
        """How the body is packed."""
        return self._headers.get(b"content-encoding", b"").strip().lower()

    @property
    def origin(self) -> str:
        """The origin of the page that sent this, or nothing: what its browser says, and no page can change."""
        return self._headers.get(b"origin", b"").decode("latin-1").lower()

    @property
    def referer(self) -> str:
        """The origin of the page that an image is on, if its browser says. It can only tell against a request."""
        if b"referer" not in self._headers:
            return ""
        address = urlsplit(self._headers[b"referer"].decode("latin-1").split("?", 1)[0].replace("[", ""))
        return f"{address.scheme}://{address.netloc}".lower()

    @property
    def cross_origin(self) -> bool:
        """Whether the browser wants to be told who may read the answer."""
        return b"origin" in self._headers

    @property
    def site_key(self) -> str:
        """The site's key, from its header or from ``?site=``, since a beacon cannot set headers. Raises ``Refused``."""
        key = self._headers.get(b"x-flattr-site")
        if key is None and self.query:
            return dict(_pairs(self.query)).get("site", "")
        return (key or b"").decode("latin-1")

    def header(self, name: bytes) -> bytes:
        """Another of the headers that matter."""
        return self._headers.get(name, b"")

    def unpacked(self, body: bytes, max_bytes: int) -> bytes:
        """The body without its gzip, which may not blow up beyond the cap. Raises ``Refused``."""
        if self.encoding in (b"", b"identity"):
            return body
        if self.encoding not in (b"gzip", b"x-gzip"):
            raise Refused(Reason.ENCODING_UNSUPPORTED, "a body may be packed with gzip, or not at all")
        unpacker = zlib.decompressobj(wbits=31)
        try:
            plain = unpacker.decompress(body, max_bytes)
        except zlib.error:
            raise Refused(Reason.ENCODING_BROKEN, "the body is not gzip") from None
        if unpacker.unconsumed_tail or unpacker.unused_data:
            raise Refused(Reason.BODY_TOO_LARGE, f"at most {max_bytes} bytes are taken, unpacked")
        if not unpacker.eof:
            raise Refused(Reason.ENCODING_BROKEN, "the gzip ends in the middle")
        return plain

    def as_json(self, body: bytes) -> tuple[bytes, bytes]:
        """The body and its media type, a form turned into the JSON object that it stands for. Raises ``Refused``."""
        media_type = self.media_type
        # Windows' editors and some exporters begin UTF-8 with a mark of its own.
        if body[:1] >= b"\xef":
            body = _unmarked(body)
        # curl -d calls everything a form; no form begins with a brace, which is always encoded there.
        if media_type == FORM and body[:1] in (b"{", b"["):
            return body, JSON
        if media_type == FORM:
            return _object(_pairs(body)), JSON
        if media_type == MULTIPART:
            return _object(multipart_pairs(body, self._headers[b"content-type"])), JSON
        if media_type in NDJSON and b"\n" + _BOM in body:
            body = body.replace(b"\n" + _BOM, b"\n")  # files put together, each with its mark
        return body, media_type

    def query_as_json(self) -> bytes:
        """The query of a pixel as a JSON object, without the site's key. Raises ``Refused``."""
        return _object((name, value) for name, value in _pairs(self.query) if name != "site")


class _Carrier(msgspec.Struct, gc=False):
    token: str | None = None


_one = msgspec.json.Decoder(_Carrier)
_many = msgspec.json.Decoder(list[_Carrier])


def body_token(body: bytes, media_type: bytes) -> bytes:
    """The token inside a JSON body; the same in every item that has one. Raises ``Refused`` when they differ.

    Nothing when there is none, or when the body is too broken to look.
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
        return b""
    tokens = {carrier.token for carrier in carriers if carrier.token}
    if len(tokens) > 1:
        raise Refused(Reason.TOKEN_INVALID, "one request, one member: its items carry different tokens")
    return tokens.pop().encode("utf-8", "replace") if tokens else b""


def _unmarked(body: bytes) -> bytes:
    if body.startswith(_UTF_16):
        raise Refused(Reason.JSON_MALFORMED, "UTF-16: send UTF-8")
    return body.removeprefix(_BOM)


def _pairs(text: bytes) -> list[tuple[str, str]]:
    if text.count(b"&") >= FIELDS_MAX:
        raise Refused(Reason.BODY_TOO_LARGE, f"a form has at most {FIELDS_MAX} fields")
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Refused(Reason.JSON_MALFORMED, "not UTF-8") from None
    # The mark of UTF-8, as in a body, but encoded.
    return [(name.removeprefix("\ufeff"), value) for name, value in pairs]


def _object(pairs: Iterable[tuple[str, str]]) -> bytes:
    """A form as a JSON object. Its numbers are numbers; a field that is left empty is not there."""
    fields: dict[str, str | int] = {}
    for name, value in pairs:
        if value:
            numeric = name in ("v", "clicked_at", "sent_at") and value.isascii() and value.isdigit() and len(value) < 19
            fields[name] = int(value) if numeric else value
    if not fields:
        raise Refused(Reason.BODY_EMPTY, "the form is empty")
    return _encoder.encode(fields)
