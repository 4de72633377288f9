"""uvicorn's HTTP/1.1 connection with bounds, for ingest and the read API.

uvicorn itself bounds neither heads nor trailers nor time, reads on while its answers go unread, and after
``Upgrade`` reads a body as the next request. Here

- the parser gets one message at a time. Whatever follows waits as bytes, and reading pauses, until the answer has
  been sent and read;
- every byte outside a body counts against a cap: head, chunk sizes and extensions, trailers, blank lines;
- one sweep every half second checks the time limits of all connections, instead of one or two timers per request;
- held bytes count against the budgets of the process (ingest/http/budgets.py);
- a refusal in the middle of a request closes the connection, as nobody knows where the next request begins.
"""

from __future__ import annotations

import time
from typing import Any, Final

import httptools

from ingest.contract.rejection import Reason
from ingest.http.joined import JoinedWrites
from ingest.http.lifetime import FULL, NO_HOST, NOWHERE, Lifetime
from ingest.http.rfc9112 import END, fault, head_without_upgrade, straddling_end
from ingest.runtime.client_address import client_address

_HEADERS_MAX: Final = 128
#: The memory that a header costs besides its bytes.
_HEADER_BYTES: Final = 128
#: How much is read and dropped after a refusal, so that the client gets to read the answer.
_DROPPED_MAX: Final = 4 * 1024 * 1024
#: How many pipelined requests are answered before other connections have their turn.
_TURN_REQUESTS: Final = 16
_HELD_MAX: Final = 1024 * 1024


def server_options(connection: type[Connection], *, drain_s: int) -> dict[str, Any]:
    """Options for ``uvicorn.Config``, except the address."""
    return {
        "loop": "uvloop",
        "http": connection,
        "ws": "none",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": drain_s,
    }


class Connection(Lifetime):
    """The reading half of a connection."""

    __slots__ = ()

    def resume_writing(self) -> None:
        """The client reads its answers again: continue reading requests."""
        super().resume_writing()
        self._unread_since = 0.0
        if self._held:
            self.loop.call_soon(self._go_on)

    # --- bytes in ---

    def data_received(self, data: bytes) -> None:
        """Feed received bytes to the parser, message by message."""
        if self._ended:
            self._dropped += len(data)
            if self._dropped > _DROPPED_MAX:
                self.transport.close()
        elif self._held:
            # Reading was paused, but an app that waits for its client to disconnect has resumed it.
            self._hold(self._held[self._held_at :] + data, 0)
        else:
            self._feed(data, 0)

    def _feed(self, data: bytes, at: int) -> None:
        """Give the parser one message, or part of one, at a time."""
        size, turn, tail = len(data), 0, b"" if self.is_idle else self._tail
        while at < size and not self._ended:
            if self._left_bytes:
                end = min(size, at + self._left_bytes)
            else:
                if self.flow.write_paused or (self.cycle is not None and self._is_answering()):
                    self._hold(data, at)
                    return
                if self.is_idle:
                    if turn == _TURN_REQUESTS:
                        self._hold(data, at)
                        self.loop.call_soon(self._go_on)
                        return
                    turn += 1
                    self.is_idle = False
                    self.waiting_since = time.monotonic()
                    self._begin()
                end = straddling_end(data, at, tail) if tail else 0
                if not end:
                    found = data.find(END, at)
                    end = size if found < 0 else found + 4
            piece = data if end - at == size else data[at:end]
            at, tail = end, b""
            self._outside_bytes += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                self._read_without_upgrade()
            except httptools.HttpParserError:
                self.refuse(Reason.HTTP_MALFORMED, "this is not a valid HTTP request")
        if self.waiting_since and not (self.is_idle or self._ended):
            self._tail = (self._tail + data[-3:])[-3:]
            self._look_at_unfinished()

    def _look_at_unfinished(self) -> None:
        """Check the bounds of a request that has arrived only in part."""
        self._check_outside()
        if self._in_body:
            if not self._has_body_clock:
                self._has_body_clock = True
                self.waiting_since = time.monotonic()
        elif not self._ended:
            # Its head is not complete.
            held = self._outside_bytes + _HEADER_BYTES * (len(self.headers) if self._in_message else 0)
            if not self._account.charge(held - self._account.charged):
                self.refuse(Reason.BODIES_FULL, FULL)

    def _read_without_upgrade(self) -> None:
        """Parse the head again without its Upgrade header, so that what follows is read as this request's body."""
        self._upgrading = False
        if self._ended:
            return
        version = self.parser.get_http_version()
        head = head_without_upgrade(self.parser.get_method(), self.url, version, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserError:
            self.refuse(Reason.HTTP_MALFORMED, "this is not a valid HTTP request")

    def _hold(self, data: bytes, at: int) -> None:
        """Hold the bytes after a request whose answer is not out or not read yet, and pause reading."""
        self.flow.pause_reading()
        if len(data) > _HELD_MAX:
            self._stop_reading()
            return
        added = len(data) - len(self._held)
        self._held, self._held_at = data, at
        if not self._account.charge(added):
            self._stop_reading()

    def _go_on(self) -> None:
        """Resume with the held bytes."""
        if not self._held or self._ended or self._is_answering() or self.flow.write_paused:
            return
        held, at = self._held, self._held_at
        self._held = b""
        self._account.charge(-len(held))
        self._feed(held, at)
        if not self._held and not self._ended:
            self.flow.resume_reading()

    # --- what the parser finds ---

    def on_message_begin(self) -> None:
        """Start a request. uvicorn's scope is made later, and only if needed."""
        self._in_message = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Refuse a head that breaks the rules; otherwise serve the request."""
        if self._ended:
            return
        method, parser = self.parser.get_method(), self.parser
        if parser.should_upgrade() and method != b"CONNECT":
            self._upgrading = True
            return
        known = dict(self.headers)
        self._is_chunked = False
        if not self._is_plain(method, known):
            return
        if self._outside_bytes > self._bounds.head_max_bytes or len(self.headers) > _HEADERS_MAX:
            self._check_outside()
            return
        self._in_body = True
        self._left_bytes = int(known.get(b"content-length", 0))
        if self._is_proxy and not self._count_named():
            return
        if self._left_bytes > self._bounds.body_max_bytes:
            self._refuse_unread(Reason.BODY_TOO_LARGE, f"a body may have at most {self._bounds.body_max_bytes} bytes")
        elif self._budgets.bytes > self._bounds.bodies_max_bytes and not self._account.charge(0):
            self._refuse_unread(Reason.BODIES_FULL, FULL)
        else:
            self._open(method)
            self.headers = NOWHERE  # trailers are read and dropped

    def _is_plain(self, method: bytes, known: dict[bytes, bytes]) -> bool:
        """Whether the head breaks no rule, with a fast path for one like the last. Refuses it otherwise."""
        version = self.parser.get_http_version()
        is_usual = known.get(b"host") == self._host and len(known) == len(self.headers) and version == "1.1"
        if is_usual and method != b"CONNECT" and b"transfer-encoding" not in known and b"expect" not in known:
            return True
        broken = fault(method, version, self.headers)
        if broken:
            self.refuse(Reason.HTTP_MALFORMED, broken)
            return False
        # HTTP/1.0 never takes the fast path.
        self._is_old = version == "1.0"
        self._host = NO_HOST if self._is_old else known[b"host"]
        self._is_chunked = b"transfer-encoding" in known
        self.expect_100_continue = known.get(b"expect", b"").lower() == b"100-continue"
        return True

    def _count_named(self) -> bool:
        """Charge the request to the client that the proxy names; False when that address has too many in flight."""
        host = self.client[0] if self.client else None
        named = self._budgets.share(client_address(host, self.headers, self._bounds.trusted_proxies))
        if named is self.share:
            return True
        if not self._account.name(named, self):
            self.refuse(Reason.CONNECTIONS_FULL, FULL)
        return not self._ended

    def _check_outside(self) -> None:
        """Refuse too many bytes outside the body: tiny chunks cost five times the bytes they carry."""
        if not self._in_body and len(self.headers or ()) > _HEADERS_MAX:
            self.refuse(Reason.HEAD_TOO_LARGE, f"at most {_HEADERS_MAX} headers")
        elif self._outside_bytes > self._bounds.head_max_bytes + self._body_bytes // 8:
            detail = f"at most {self._bounds.head_max_bytes} bytes of headers and chunk framing"
            self.refuse(Reason.HEAD_TOO_LARGE, detail)

    def on_body(self, body: bytes) -> None:
        """Count and store a piece of the body."""
        size = len(body)
        self._outside_bytes -= size
        self._body_bytes += size
        if self._left_bytes:
            self._left_bytes -= size
        if self._ended:
            return
        if self._body_bytes > self._bounds.body_max_bytes:
            self.refuse(Reason.BODY_TOO_LARGE, f"a body may have at most {self._bounds.body_max_bytes} bytes")
        elif self._account.charge(size) and not self._ended:
            self._gather(body)
        else:
            self.refuse(Reason.BODIES_FULL, FULL)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._ended or self._upgrading:
            return
        if self._is_chunked:
            self._check_outside()
        if not self._ended:
            self._in_message = self._in_body = False
            self.waiting_since = 0.0
            self._whole()

    # --- serving a request; the shorter path for beacons is in ingest/http/server.py ---

    def _open(self, _: bytes) -> None:
        """The head is complete: start the app."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers = self.scope["headers"] = headers
        self.scope["state"]["address"] = self.holder.name
        if self._is_proxy and (b"x-forwarded-proto", b"https") in headers:
            self.scope["scheme"] = "https"
        super().on_headers_complete()
        self.cycle.transport = JoinedWrites(self.transport)  # type: ignore[assignment] # has what the cycle needs

    def _gather(self, body: bytes) -> None:
        """Pass on a piece of the body."""
        super().on_body(body)

    def _whole(self) -> None:
        """The body is complete."""
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out: go on to the next request, which may already be here."""
        self.server_state.total_requests += 1
        self._account.release(len(self._held))
        if self.transport.is_closing():
            return
        self._let_go()
        if self._in_message:
            self._linger()  # nobody reads the rest of its body
        elif self._ended:
            self.transport.close()
        else:
            self.is_idle = True
            self.waiting_since = time.monotonic()
            if self._held:
                self.loop.call_soon(self._go_on)
            else:
                self.flow.resume_reading()
