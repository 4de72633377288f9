"""uvicorn's HTTP/1.1 connection with bounds: what ingest and the read API both serve on.

uvicorn itself bounds neither heads nor trailers nor time, reads on while nobody takes its answers, and after
``Upgrade`` it reads a body as the next request. Here

- the parser gets no more than one message at a time. What follows it waits as bytes, and reading pauses, until
  its answer is out and taken;
- every byte that is not of a body counts against a cap, whatever it is: head, chunk sizes and extensions, trailers,
  blank lines;
- one sweep every half second asks each connection for the time, instead of one or two timers for each request;
- what is held counts against the budgets of the process (ingest/http/budgets.py);
- a refusal in the middle of a request ends the connection: nobody knows where the next one would begin.
"""

from __future__ import annotations

import time
from typing import Any, Final

import httptools

from ingest.contract.rejection import Reason
from ingest.http.lifetime import FULL, NO_HOST, NOWHERE, Lifetime
from ingest.http.rfc9112 import END, fault, head_without_upgrade, straddling_end
from ingest.runtime.client_address import client_address

_HEADERS_MAX: Final = 128
#: What a header costs in memory beside its bytes.
_HEADER_BYTES: Final = 128
#: After a refusal so much is read and dropped, so that its sender gets to see why.
_DROPPED_MAX: Final = 4 * 1024 * 1024
#: So many requests that came together are answered before others have their turn.
_TURN_REQUESTS: Final = 16
_HELD_MAX: Final = 1024 * 1024


def server_options(connection: type[Connection], *, drain_s: int) -> dict[str, Any]:
    """How uvicorn is to behave, besides its address."""
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
    """One connection, and what is read from it."""

    __slots__ = ()

    def resume_writing(self) -> None:
        """Answers are being taken: read on."""
        super().resume_writing()
        self._unread_since = 0.0
        if self._held:
            self.loop.call_soon(self._go_on)

    # --- bytes in ---

    def data_received(self, data: bytes) -> None:
        """Read what comes, message by message."""
        if self._ended:
            self._dropped += len(data)
            if self._dropped > _DROPPED_MAX:
                self.transport.close()
        elif self._held:
            # Reading was paused, and an app that waits for its client to go has let it go on.
            self._hold(self._held[self._held_at :] + data, 0)
        else:
            self._feed(data, 0)

    def _feed(self, data: bytes, at: int) -> None:
        """Give the parser one message, or a piece of one, and then the next."""
        size, turn, tail = len(data), 0, b"" if self.is_idle else self._tail
        while at < size and not self._ended:
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
            if self._left_bytes:
                end = min(size, at + self._left_bytes)
            else:
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
                self.refuse(Reason.HTTP_MALFORMED, "this is no HTTP request")
        if self.waiting_since and not (self.is_idle or self._ended):
            self._tail = (self._tail + data[-3:])[-3:]
            self._look_at_unfinished()

    def _look_at_unfinished(self) -> None:
        """A request is not here as a whole: look at what there is of it."""
        self._check_outside()
        if self._in_body:
            if not self._has_body_clock:
                self._has_body_clock = True
                self.waiting_since = time.monotonic()
        elif not self._ended:
            # Its head is not.
            held = self._outside_bytes + _HEADER_BYTES * (len(self.headers) if self._in_message else 0)
            if not self._account.charge(held - self._account.charged):
                self.refuse(Reason.BODIES_FULL, FULL)

    def _read_without_upgrade(self) -> None:
        """Read the head again without the header that ends HTTP: what follows it is this request's body."""
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
            self.refuse(Reason.HTTP_MALFORMED, "this is no HTTP request")

    def _hold(self, data: bytes, at: int) -> None:
        """Keep what follows a request that is not answered, or whose answer is not taken, and read no more."""
        self.flow.pause_reading()
        if len(data) > _HELD_MAX:
            self._stop_reading()
            return
        more = len(data) - len(self._held)
        self._held, self._held_at = data, at
        if not self._account.charge(more):
            self._stop_reading()

    def _go_on(self) -> None:
        """Read what was held."""
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
        """Start a request. The scope is made when it turns out to be needed."""
        self._in_message = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Refuse a head that breaks the rules; serve the request otherwise."""
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
            self._refuse_unread(Reason.BODY_TOO_LARGE, f"at most {self._bounds.body_max_bytes} bytes are taken")
        elif self._budgets.bytes > self._bounds.bodies_max_bytes and not self._account.charge(0):
            self._refuse_unread(Reason.BODIES_FULL, FULL)
        else:
            self._open(method)
            self.headers = NOWHERE  # trailers are read and dropped

    def _is_plain(self, method: bytes, known: dict[bytes, bytes]) -> bool:
        """Whether the head breaks no rule; quickly where it is like the one before it."""
        version = self.parser.get_http_version()
        is_usual = known.get(b"host") == self._host and len(known) == len(self.headers) and version == "1.1"
        if is_usual and method != b"CONNECT" and b"transfer-encoding" not in known and b"expect" not in known:
            return True
        broken = fault(method, version, self.headers)
        if broken:
            self.refuse(Reason.HTTP_MALFORMED, broken)
            return False
        # Of HTTP/1.0 every head is looked at like this.
        self._is_old = version == "1.0"
        self._host = NO_HOST if self._is_old else known[b"host"]
        self._is_chunked = b"transfer-encoding" in known
        self.expect_100_continue = known.get(b"expect", b"").lower() == b"100-continue"
        return True

    def _count_named(self) -> bool:
        """Count the request for whom the proxy names; False when that address has enough under way."""
        host = self.client[0] if self.client else None
        named = self._budgets.share(client_address(host, self.headers, self._bounds.trusted_proxies))
        if named is self.share:
            return True
        if not self._account.name(named, self):
            self.refuse(Reason.CONNECTIONS_FULL, FULL)
        return not self._ended

    def _check_outside(self) -> None:
        """Refuse more bytes around a body than is decent. Tiny chunks have five times their body's bytes."""
        if not self._in_body and len(self.headers or ()) > _HEADERS_MAX:
            self.refuse(Reason.HEAD_TOO_LARGE, f"at most {_HEADERS_MAX} headers")
        elif self._outside_bytes > self._bounds.head_max_bytes + self._body_bytes // 8:
            detail = f"at most {self._bounds.head_max_bytes} bytes of headers and of what else is no body"
            self.refuse(Reason.HEAD_TOO_LARGE, detail)

    def on_body(self, body: bytes) -> None:
        """Count the body and keep it."""
        size = len(body)
        self._outside_bytes -= size
        self._body_bytes += size
        if self._left_bytes:
            self._left_bytes -= size
        if self._ended:
            return
        if self._body_bytes > self._bounds.body_max_bytes:
            self.refuse(Reason.BODY_TOO_LARGE, f"at most {self._bounds.body_max_bytes} bytes are taken")
        elif self._account.charge(size) and not self._ended:
            self._gather(body)
        else:
            self.refuse(Reason.BODIES_FULL, FULL)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._ended or self._upgrading:
            return
        if self._is_chunked:
            self._check_outside()
        if not self._ended:
            self._in_message = self._in_body = False
            self.waiting_since = 0.0
            self._whole()

    # --- what becomes of a request; the short way of beacons is in ingest/http/server.py ---

    def _open(self, _: bytes) -> None:
        """A head is here: start the app."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers = self.scope["headers"] = headers
        self.scope["state"]["address"] = self.holder.name
        if self._is_proxy and (b"x-forwarded-proto", b"https") in headers:
            self.scope["scheme"] = "https"
        super().on_headers_complete()

    def _gather(self, body: bytes) -> None:
        """Some of the body is here."""
        super().on_body(body)

    def _whole(self) -> None:
        """All of it is."""
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is out: the next request may come, or is here already."""
        self.server_state.total_requests += 1
        self._account.release(len(self._held))
        if self.transport.is_closing():
            return
        self._let_go()
        if self._in_message:
            self._linger()  # the rest of its body is nobody's
        elif self._ended:
            self.transport.close()
        else:
            self.is_idle = True
            self.waiting_since = time.monotonic()
            if self._held:
                self.loop.call_soon(self._go_on)
            else:
                self.flow.resume_reading()
