"""uvicorn's HTTP/1.1 protocol with a shorter way for beacons, and with time-outs for slow senders.

uvicorn makes a scope, a cycle, an event and a task for each request. For a beacon none is needed: its body
is handed to ``Beacon.take`` when it is whole, and the answer is one write. That halves the cost of a click
(`flattr bench ingest`). Everything else goes the ordinary way: other paths, and requests pipelined behind a
beacon that is not answered yet.

Timers cost, too: instead of one or two per request, one sweep every half second asks each connection.
"""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.beacon import PATHS, Beacon, Headers
from ingest.click import Reason
from ingest.peer import client_address, is_trusted, share_of
from ingest.refusal import Refused
from ingest.request import Request
from ingest.settings import IngestSettings

_SWEEP_S: Final = 0.5
#: Of a body that is refused before its end, so much is read and dropped, so that its sender gets to see why.
_DROPPED_MAX: Final = 4 * 1024 * 1024


class HasBeacon(Protocol):
    """What this protocol asks of the app that it serves."""

    beacon: Beacon
    settings: IngestSettings
    connections: set[BeaconProtocol]
    common_headers: tuple[list[tuple[bytes, bytes]], bytes]


async def sweep(app: HasBeacon) -> None:
    """Close what is too slow or idle for too long, for ever."""
    while True:
        await asyncio.sleep(_SWEEP_S)
        now = time.monotonic()
        for connection in list(app.connections):
            connection.check_time(now)


class _Signal:
    """Stands where uvicorn has an asyncio.Event that nobody here waits for."""

    def set(self) -> None:
        """Nobody waits."""


class _BeaconCycle:
    """One beacon's request and answer; to uvicorn it looks like a cycle of its own."""

    message_event: Final = _Signal()

    def __init__(self, connection: BeaconProtocol, request: Request, *, keep_alive: bool) -> None:
        self._connection = connection
        self.request = request
        self.body = b""
        self.pieces: bytearray | None = None
        self.more_body = True
        self.disconnected = False
        self.keep_alive = keep_alive
        self.response_complete = False
        self.dropped = request.length

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Write the answer, at once and once."""
        if self.response_complete:
            return
        self.response_complete = True
        if not self.disconnected:
            self._connection.write_answer(self, status, headers, body)


class BeaconProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__(*args, **kwargs)
        self._app: HasBeacon = self.app
        self._settings = self._app.settings
        self._beacon = self._app.beacon
        self._beacon_cycle: _BeaconCycle | None = None
        #: Since when a request is incomplete, or the connection idle; 0 while an answer is awaited.
        self._waiting_since = time.monotonic()
        self._idle = True
        self._head_bytes = 0
        #: A refusal that ends the connection, while answers that are due before it are awaited.
        self._last_words = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Watch a new connection."""
        super().connection_made(transport)
        self._app.connections.add(self)
        self._host = self.client[0] if self.client else None
        self._share = share_of(self._host)
        self._is_proxy = is_trusted(self._host, self._settings.trusted_proxies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._app.connections.discard(self)
        super().connection_lost(exc)

    def check_time(self, now: float) -> None:
        """Close the connection if its client has been silent, or too slow, for too long."""
        if not self._waiting_since:
            return
        waited_s = now - self._waiting_since
        if self._idle:
            if waited_s > self._settings.keep_alive_s:
                self.transport.close()
        elif waited_s > self._settings.body_timeout_s:
            self._waiting_since = 0.0
            cycle = self._beacon_cycle
            if cycle is not None and cycle.more_body and not cycle.response_complete:
                refused = Refused(Reason.BODY_TIMEOUT, "the body did not arrive in time")
                self._beacon.refuse(cycle.request, refused, bytes(cycle.pieces or cycle.body), cycle.reply)
            elif cycle is None or not cycle.response_complete:
                self._refuse_head(Reason.HEAD_TIMEOUT, "the request did not arrive in time")
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that grows over its cap ends the connection."""
        if self._last_words:
            return
        if self._idle:
            self._idle = False
            self._head_bytes = 0
            self._waiting_since = time.monotonic()
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
        super().data_received(data)
        over = self._head_bytes > self._settings.header_max_bytes
        if over and not self._last_words and not self.transport.is_closing():
            self._refuse_head(Reason.HEAD_TOO_LARGE, f"at most {self._settings.header_max_bytes} bytes of headers")

    def on_message_begin(self) -> None:
        """Start a request. The scope is made when it turns out to be needed."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Take a beacon the short way, everything else uvicorn's."""
        self._head_bytes = -1
        path, _, query = self.url.partition(b"?")
        name = path.decode("latin-1")
        answering = self.cycle is not None and not self.cycle.response_complete
        if name not in PATHS or answering or self.expect_100_continue or self.parser.should_upgrade():
            self._beacon_cycle = None
            self._take_ordinary_way()
            return
        address = self._share
        if self._is_proxy:
            address = client_address(self._host, self.headers, self._settings.trusted_proxies)
        request = Request(self.parser.get_method().decode("ascii"), name, query, self.headers, address)
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        cycle = _BeaconCycle(self, request, keep_alive=keep_alive)
        self._beacon_cycle = cycle
        self.cycle = cycle  # type: ignore[assignment] # has what HttpToolsProtocol asks of a cycle
        try:
            self._beacon.check_length(request.length)
        except Refused as refused:
            self._beacon.refuse(request, refused, b"", cycle.reply)

    def on_body(self, body: bytes) -> None:
        """Gather a beacon's body, as far as its cap."""
        cycle = self._beacon_cycle
        if cycle is None:
            super().on_body(body)
            return
        if cycle.response_complete:
            cycle.dropped += len(body)
            if cycle.dropped > _DROPPED_MAX:
                self.transport.close()
            return
        if not cycle.body:
            cycle.body = body
        else:
            if cycle.pieces is None:
                cycle.pieces = bytearray(cycle.body)
            cycle.pieces += body
        try:
            self._beacon.check_length(len(cycle.pieces or cycle.body))
        except Refused as refused:
            self._beacon.refuse(cycle.request, refused, bytes(cycle.pieces or cycle.body), cycle.reply)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._waiting_since = 0.0
        self._head_bytes = 0
        cycle = self._beacon_cycle
        if cycle is None:
            super().on_message_complete()
            return
        cycle.more_body = False
        if cycle.response_complete:
            self.transport.close()
        else:
            self._beacon.take(cycle.request, cycle.body if cycle.pieces is None else bytes(cycle.pieces), cycle.reply)

    def on_response_complete(self) -> None:
        """An answer is out: the next request may come, or is here already."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._last_words:
            self.transport.write(self._last_words)
            self.transport.close()
        else:
            self._idle = True
            self._waiting_since = time.monotonic()

    def write_answer(self, cycle: _BeaconCycle, status: int, headers: Headers, body: bytes) -> None:
        """Status line, headers and body in one write."""
        closing = not cycle.keep_alive or cycle.more_body
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\n\r\n%b"
            % (
                _head(status, headers),
                self._common_headers(),
                b"connection: close\r\n" if closing else b"",
                len(body),
                b"" if cycle.request.method == "HEAD" else body,
            )
        )
        if cycle.more_body and cycle.dropped <= _DROPPED_MAX:
            return  # closed by the end of the body, by too much of it, or by time
        if closing:
            self.transport.close()
        self.on_response_complete()

    def _common_headers(self) -> bytes:
        """The headers of every answer, such as Date: uvicorn makes a new list of them each second."""
        made_of = self.server_state.default_headers
        if self._app.common_headers[0] is not made_of:
            lines = b"".join([b"%b: %b\r\n" % pair for pair in made_of])
            self._app.common_headers = (made_of, lines)
        return self._app.common_headers[1]

    def _take_ordinary_way(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers = self.scope["headers"] = headers
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close: nobody knows where the next request would begin."""
        self._refuse_head(Reason.HTTP_MALFORMED, msg)

    def _answer_due(self) -> bool:
        """Whether a request before the bytes that were just read still waits for its answer."""
        newest = self.cycle
        if newest is None or newest.response_complete:
            return False
        if newest.more_body and self.pipeline and self.pipeline[0][0] is newest:
            self.pipeline.popleft()  # it was never whole, and its turn had not come
            return True
        return not newest.more_body

    def _refuse_head(self, reason: Reason, detail: str) -> None:
        """Refuse what cannot be read on, behind the answers due before it, and close."""
        status, body = self._beacon.refuse_head(Refused(reason, detail))
        head = _head(status, ((b"content-type", b"application/problem+json"), (b"connection", b"close")))
        answer = b"%bconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        if self._answer_due():
            self._last_words = answer
        else:
            self.transport.write(answer)
            self.transport.close()


@lru_cache(1024)
def _head(status: int, headers: Headers) -> bytes:
    """The status line and the headers, but those that differ every time."""
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in headers if name != b"connection"]
    return b"\r\n".join([*lines, b""])
