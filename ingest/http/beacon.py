"""The life of a request: read, admitted, validated, published, answered.

There is no framework and no task per request: a request comes in as values, and its answer goes out through a
callback once the broker has its clicks. ingest/http/server.py calls this straight from the socket; ``asgi`` offers
the same to any ASGI server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from ingest.admission.caller import Admission
from ingest.admission.request import JSON, Request
from ingest.admission.validate import Caller, Validator
from ingest.contract.click import Click, encode_block
from ingest.contract.rejection import Reason
from ingest.contract.times import true_time_ms
from ingest.http.form_page import FORM_PAGE_HEADERS, form_page
from ingest.http.refused_input import RefusedInput
from ingest.log.lane import Placed, RequestClicks
from ingest.log.partition import member_hash
from ingest.log.publisher import Publisher
from ingest.metrics import Metrics
from ingest.runtime.client_address import client_address
from ingest.runtime.clock import Clock
from ingest.runtime.refusal import Refusal, Refused, problem
from ingest.runtime.tokens import Pixel
from ingest.settings import IngestSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
#: Sends an answer: status, headers (without content-length), body.
Reply = Callable[[int, Headers, bytes], None]

CLICKS: Final = "/v1/clicks"
PIXEL: Final = "/v1/click.gif"
PATHS: Final = frozenset({CLICKS, PIXEL})
#: A transparent GIF of one pixel.
GIF: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
_METHODS: Final = {CLICKS: "POST", PIXEL: "GET"}
_ALLOWED: Final = {CLICKS: b"POST, OPTIONS", PIXEL: b"GET, HEAD, OPTIONS"}
_PIXEL_HEADERS: Final[Headers] = ((b"content-type", b"image/gif"), (b"cache-control", b"no-store"))
_JSON_HEADERS: Final[Headers] = ((b"content-type", b"application/json"),)
_PROBLEM: Final = (b"content-type", b"application/problem+json")
_PREFLIGHT: Final[Headers] = (
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding, x-flattr-site"),
    (b"access-control-max-age", b"86400"),
)
#: Headers of an answer that a page of another origin may read.
_EXPOSED: Final = (b"access-control-expose-headers", b"retry-after")
_DETAILS: Final = {
    Reason.BROKER_UNAVAILABLE: "the broker did not acknowledge in time: retry with the same click_id",
    Reason.QUEUE_FULL: "the queue to the broker is full: retry with the same click_id",
    Reason.DRAINING: "this server is shutting down: retry with the same click_id",
    Reason.BODIES_FULL: "too many requests are in flight: retry with the same click_id",
    Reason.CONNECTIONS_FULL: "too many connections are open: retry with the same click_id",
}
_NOBODY: Final = Caller("")
_encoder = msgspec.json.Encoder()
_log = structlog.get_logger(__name__)


class PlacedClick(msgspec.Struct, gc=False):
    """Where an accepted click is: partition and offset of its record, and its index there; all None in the spool."""

    item: int
    click_id: str
    partition: int | None
    offset: int | None
    index: int | None


class Taken(msgspec.Struct):
    """The body of a 202: a verdict on every item, by its index in the request."""

    receipts: list[PlacedClick]
    refused: list[Refusal]


@dataclass(frozen=True, slots=True)
class Services:
    """The beacon's dependencies."""

    settings: IngestSettings
    publisher: Publisher
    admission: Admission
    validator: Validator
    clock: Clock
    metrics: Metrics
    retained: RefusedInput


class Beacon:
    """Answers requests for /v1/clicks and /v1/click.gif."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._publisher = services.publisher
        self._submit = services.publisher.submit
        self._admission = services.admission
        self._validator = services.validator
        self._clock = services.clock
        self._metrics = services.metrics
        self._retained = services.retained

    def take(self, request: Request, body: bytes, reply: Reply) -> None:
        """Answer a complete request: at once, or when its clicks are acknowledged."""
        exchange = Exchange(self, request, body, reply)
        self._metrics.requests += 1
        try:
            if request.method == "OPTIONS":
                exchange.reply(204, _PREFLIGHT, b"")
                return
            if request.method == "HEAD" and request.path == PIXEL:
                # What GET would answer; a HEAD flattrs nothing.
                exchange.reply(200, _PIXEL_HEADERS, GIF)
                return
            self._publish(exchange, self._verdicts(exchange))
        except Refused as refused:
            exchange.refuse(refused)
        except Exception:  # noqa: BLE001 - the connection must survive for the next request
            _log.exception("unexpected error while answering a request", path=request.path)
            reply(500, _JSON_HEADERS, b'{"detail":"internal error; see the server log"}')

    def refuse(self, request: Request, refused: Refused, body: bytes, reply: Reply) -> None:
        """Answer a request whose body never arrived in full."""
        self._metrics.requests += 1
        exchange = Exchange(self, request, body, reply)
        exchange.caller = self._admission.known(request)
        exchange.refuse(refused)

    def refuse_head(self, refused: Refused) -> tuple[int, bytes]:
        """Status and body for bytes that never became a request."""
        self._metrics.refused[refused.refusal.reason] += 1
        return problem([refused.refusal])

    def check_length(self, length: int) -> None:
        """Raise ``Refused`` when a body's size, announced or received so far, exceeds the maximum."""
        if length > self._settings.body_max_bytes:
            raise Refused(Reason.BODY_TOO_LARGE, f"a body may have at most {self._settings.body_max_bytes} bytes")

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as an ASGI app."""
        peer = scope.get("client")
        address = client_address(peer and peer[0], scope["headers"], self._settings.trusted_proxies)
        request = Request(scope["method"], scope["path"], scope["query_string"], scope["headers"], address)
        answer: asyncio.Future[tuple[int, Headers, bytes]] = asyncio.get_running_loop().create_future()

        def reply(status: int, headers: Headers, body: bytes) -> None:
            if not answer.done():
                answer.set_result((status, headers, body))

        body = bytearray()
        try:
            await self._read(request, receive, body)
            self.take(request, bytes(body), reply)
        except Refused as refused:
            self.refuse(request, refused, bytes(body), reply)
        except ConnectionAbortedError:
            return
        status, headers, content = await answer
        headers = (*headers, (b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _read(self, request: Request, receive: Receive, body: bytearray) -> None:
        self.check_length(request.length)
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionAbortedError
                    body += message.get("body", b"")
                    self.check_length(len(body))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            raise Refused(Reason.BODY_TIMEOUT, "the body did not arrive in time") from None

    def _verdicts(self, exchange: Exchange) -> list[Click | Refusal]:
        request = exchange.request
        if request.method != _METHODS[request.path]:
            raise Refused(Reason.METHOD_NOT_ALLOWED, f"this endpoint takes {_METHODS[request.path]}")
        request.check()
        if request.path == PIXEL:
            return self._pixel(exchange)
        try:
            plain = request.unpacked(exchange.body, self._settings.body_max_bytes)
            exchange.body, exchange.media_type = request.as_json(plain)
        except Refused:
            exchange.caller = self._admission.known(request)
            raise
        exchange.unpacked = True
        try:
            exchange.caller = self._admission.caller(request, exchange.body, exchange.media_type)
        except Refused as refused:
            self._admission.check_failures(request, refused)
            raise
        exchange.received_at = self._clock()
        verdicts = self._validator.read(exchange.body, exchange.media_type, exchange.caller, exchange.received_at)
        self._admission.check_rate(exchange.caller, len(verdicts))
        return verdicts

    def _pixel(self, exchange: Exchange) -> list[Click | Refusal]:
        """The verdict on the one flattr that a pixel's token is bound to."""
        request = exchange.request
        exchange.body, exchange.media_type, exchange.unpacked = request.query_as_json(), JSON, True
        try:
            exchange.caller, pixel = self._admission.pixel(request, exchange.body)
        except Refused as refused:
            self._admission.check_failures(request, refused)
            raise
        exchange.received_at = self._clock()
        verdicts = self._validator.read(exchange.body, JSON, exchange.caller, exchange.received_at)
        self._admission.check_rate(exchange.caller, len(verdicts))
        return [self._within(pixel, verdict) for verdict in verdicts]

    def _within(self, pixel: Pixel, verdict: Click | Refusal) -> Click | Refusal:
        if isinstance(verdict, Refusal):
            return verdict
        if verdict.action != "flattr":
            return Refusal(Reason.FIELD_VALUE, "a pixel cannot undo", 0, "action")
        # The page's author writes the address: one view must not also flattr in the month before.
        if true_time_ms(verdict.clicked_at, verdict.sent_at, verdict.received_at) < pixel.begins_at:
            return Refusal(Reason.TOKEN_SCOPE, "the click is older than its token", 0, "clicked_at")
        if verdict.creator_id != pixel.creator or not self._validator.is_thing(verdict, pixel.creator, pixel.thing):
            return Refusal(Reason.TOKEN_SCOPE, "the token is for another creator or thing", 0)
        return verdict

    def _publish(self, exchange: Exchange, verdicts: list[Click | Refusal]) -> None:
        """Hand the clicks to the publisher. They are one member's, so they share a partition."""
        clicks = exchange.clicks = [(item, found) for item, found in enumerate(verdicts) if isinstance(found, Click)]
        if len(clicks) < len(verdicts):
            exchange.refused = [found for found in verdicts if isinstance(found, Refusal)]
        if not clicks:
            exchange.finish()
            return
        lines = encode_block([click for _, click in clicks])
        whose = member_hash(exchange.caller.member_id)
        self._submit(RequestClicks(whose, lines, len(clicks), exchange.received_at, exchange.placed))

    def answered(self, exchange: Exchange, accepted: int) -> None:
        """Count an answer, and retain what was refused."""
        metrics = self._metrics
        metrics.accepted += accepted
        metrics.answer_seconds.observe(time.perf_counter() - exchange.began)
        if not exchange.refused:
            return
        raws = [exchange.body]
        if any(refusal.item is not None for refusal in exchange.refused):
            raws = self._validator.raws(exchange.body, exchange.media_type)
        packed = not exchange.unpacked and exchange.request.encoding not in (b"", b"identity")
        for refusal in exchange.refused:
            metrics.refused[refusal.reason] += 1
            # A replay that is refused again is already stored. A client that fakes the header only loses its own
            # record.
            if not exchange.request.header(b"x-flattr-replay"):
                self._retained.take(refusal, raws[refusal.item or 0], exchange.caller, packed=packed)

    def cors(self, request: Request) -> Headers:
        """The CORS headers that let a page read the answer."""
        origin = self._admission.origin_to_answer(request)
        if not origin:
            return ()
        allow = ((b"access-control-allow-origin", origin), _EXPOSED)
        return (
            allow if origin == b"*" else (*allow, (b"access-control-allow-credentials", b"true"), (b"vary", b"origin"))
        )


class Exchange:
    """One request and the state of its answer."""

    __slots__ = (
        "_beacon",
        "_reply",
        "began",
        "body",
        "caller",
        "clicks",
        "media_type",
        "received_at",
        "refused",
        "request",
        "unpacked",
    )

    def __init__(self, beacon: Beacon, request: Request, body: bytes, reply: Reply) -> None:
        self._beacon = beacon
        self._reply = reply
        self.began = time.perf_counter()
        self.request = request
        self.body = body
        self.received_at = 0
        self.media_type = b""
        #: Whether ``body`` has been decompressed.
        self.unpacked = False
        self.caller = _NOBODY
        self.clicks: list[tuple[int, Click]] = []
        self.refused: list[Refusal] = []

    def placed(self, place: Placed | Reason) -> None:
        """Answer with the publisher's outcome: where the clicks were placed, or why they were not."""
        if isinstance(place, Reason):
            self.refused += [Refusal(place, _DETAILS[place], item) for item, _ in self.clicks]
            self.clicks = []
            self.finish()
            return
        receipts = [
            PlacedClick(
                item, click.click_id, place.partition, place.offset, None if place.index is None else place.index + line
            )
            for line, (item, click) in enumerate(self.clicks)
        ]
        self._beacon.answered(self, len(receipts))
        if self.request.path == PIXEL:
            self.reply(200, _PIXEL_HEADERS, GIF)
        else:
            self.reply(202, _JSON_HEADERS, _encoder.encode(Taken(receipts, self.refused)))

    def refuse(self, refused: Refused) -> None:
        """Refuse the whole request, for one reason."""
        self.refused = [refused.refusal]
        self.finish(refused.retry_after_s)

    def finish(self, retry_after_s: int = 2) -> None:
        """Answer that no click was accepted."""
        self._beacon.answered(self, 0)
        status, body = problem(self.refused)
        headers = [_PROBLEM]
        if status in (429, 503):
            headers.append((b"retry-after", b"%d" % retry_after_s))
        elif status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="flattr"'))
            if self.refused[0].reason is Reason.TOKEN_EARLY:
                headers.append((b"retry-after", b"%d" % retry_after_s))
        elif status == 405:
            headers.append((b"allow", _ALLOWED[self.request.path]))
        elif status in (408, 413):
            # The rest of the body is not read, so the connection cannot be reused.
            headers.append((b"connection", b"close"))
        self.reply(status, tuple(headers), body)

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the answer with its CORS headers; as a page to the reader who sent a form without a script."""
        if self.request.wants_page:
            why = self.refused[0].reason if self.refused else None
            body = form_page(status, why, self.request.header(b"accept-language"))
            headers = (*[header for header in headers if header[0] != b"content-type"], *FORM_PAGE_HEADERS)
        self._reply(status, headers + cors if (cors := self._beacon.cors(self.request)) else headers, body)
