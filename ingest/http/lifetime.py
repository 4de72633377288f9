"""The life cycle of a connection: its peer, its budget, its time limits, and how it is closed.

Reading is in ingest/http/connection.py.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.contract.rejection import Reason
from ingest.http.budgets import Account, AddressShare, Budgets
from ingest.http.rfc9112 import Nowhere, refusal
from ingest.runtime.client_address import is_trusted, share_of
from ingest.runtime.refusal import Refused

#: With more unread answers than this in the write buffer, no requests are read.
_UNREAD_HIGH_BYTES: Final = 16 * 1024
#: How long a client has to read a refusal before its connection is closed.
_LINGER_S: Final = 2.0
NOWHERE: Final = Nowhere()
#: A value that no Host header has.
NO_HOST: Final = b"\0"
FULL: Final = "this server is overloaded: try again later"


class Lifetime(HttpToolsProtocol):
    """One connection. The app it serves has ``state.budgets``."""

    # uvicorn's attributes use up the number that CPython looks up fast in an instance dict; slots do not count.
    __slots__ = (
        "_account",
        "_body_bytes",
        "_bounds",
        "_budgets",
        "_dropped",
        "_ended",
        "_has_body_clock",
        "_held",
        "_held_at",
        "_host",
        "_in_body",
        "_in_message",
        "_is_chunked",
        "_is_old",
        "_is_proxy",
        "_left_bytes",
        "_outside_bytes",
        "_tail",
        "_unread_since",
        "_upgrading",
        "is_idle",
        "waiting_since",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on unchanged
        super().__init__(*args, **kwargs)
        self._budgets: Budgets = self.app.state.budgets
        self._bounds = self._budgets.bounds
        #: When the request in progress, or the idle time, began; 0 while an answer is being made.
        self.waiting_since = time.monotonic()
        self.is_idle = True
        self._is_proxy = False
        self._account: Account = None  # type: ignore[assignment] # set in connection_made
        #: Between the first byte of a request and its last.
        self._in_message = False
        self._in_body = False
        #: Whatever still arrives is dropped.
        self._ended = False
        self._upgrading = False
        #: From the last head: its host, if valid, and how its body is framed.
        self._host = NO_HOST
        self._is_chunked = False
        self._is_old = False
        #: Bytes after a request that is not answered yet, and how many of them are read.
        self._held = b""
        self._held_at = 0
        self._dropped = 0
        self._unread_since = 0.0
        self._begin()

    def _begin(self) -> None:
        """Reset the state of one request."""
        #: Bytes of this request outside its body.
        self._outside_bytes = 0
        self._body_bytes = 0
        #: Bytes of the body still to come, if its length was announced.
        self._left_bytes = 0
        self._has_body_clock = False
        #: The last three bytes read.
        self._tail = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Admit a new connection, or refuse it when there is no room."""
        super().connection_made(transport)
        host = self.client[0] if self.client else None
        self._is_proxy = is_trusted(host, self._bounds.trusted_proxies)
        self._account = self._budgets.account(share_of(host), is_limited=not self._is_proxy)
        transport.set_write_buffer_limits(high=_UNREAD_HIGH_BYTES)
        if not self._budgets.join(self):
            self._say(Refused(Reason.CONNECTIONS_FULL, FULL))
            self.give_way(Reason.CONNECTIONS_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        self._ended = True
        self._forget()
        super().connection_lost(exc)
        # Connection, transport and parser refer to each other, so a part of a body would live on, and count nowhere,
        # until the garbage collector comes by.
        self._let_go()

    def _forget(self) -> None:
        self._held = b""
        self._account.release(0)
        self._budgets.leave(self)

    def check_time(self, now: float) -> int:
        """Close the connection if its client is too slow; return the bytes of answers not read yet."""
        unread = self.transport.get_write_buffer_size()
        if not unread:
            self._unread_since = 0.0
        elif not self._unread_since:
            self._unread_since = now
        elif now - self._unread_since > self._bounds.write_timeout_s:
            self._ended = True
            self.transport.abort()
            return 0
        if self.waiting_since and not self.transport.is_closing():
            self._check_waiting(now - self.waiting_since)
        return unread

    def _check_waiting(self, waited_s: float) -> None:
        if self._ended:
            if waited_s > _LINGER_S:
                self.transport.close()
        elif self.is_idle:
            if waited_s > self._bounds.keep_alive_s:
                self.transport.close()
        elif self._in_body:
            if waited_s > self._bounds.body_timeout_s:
                self.refuse(Reason.BODY_TIMEOUT, "the body did not arrive in time")
        elif waited_s > self._bounds.head_timeout_s:
            self.refuse(Reason.HEAD_TIMEOUT, "the request did not arrive in time")

    @property
    def is_loose(self) -> bool:
        """Whether it holds part of a request."""
        return not self._ended and bool(self._account.charged) and (self._in_message or bool(self._held))

    @property
    def held_bytes(self) -> int:
        """The bytes of requests it holds."""
        return self._account.charged

    @property
    def share(self) -> AddressShare:
        """The peer's share."""
        return self._account.own

    @property
    def holder(self) -> AddressShare:
        """The share the current request counts against: the peer's, or its client's if the peer is a trusted proxy."""
        return self._account.holder

    def give_way(self, reason: Reason) -> None:
        """Close at once, but finish an answer in progress and tell a partial request why."""
        if self._unread_since:
            self._ended = True
            self.transport.abort()
        elif self._is_answering():
            self._stop_reading()
            return
        elif not self._ended and not self.is_idle:
            self._say(Refused(reason, FULL))
        self._ended = True
        self._forget()
        self.transport.close()

    def _is_answering(self) -> bool:
        """Whether a complete request waits for its answer."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not self._in_message

    def _stop_reading(self) -> None:
        """Read no request after the one being answered."""
        self._ended = True
        self._account.charge(-len(self._held))
        self._held = b""
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def refuse(self, reason: Reason, detail: str) -> None:
        """Refuse the request being read, and close the connection once its client has had time to read the answer."""
        if not self._ended:
            self._say(Refused(reason, detail))
            self._linger()

    def _refuse_unread(self, reason: Reason, detail: str) -> None:
        """Refuse a request with a valid head before reading its body."""
        self.refuse(reason, detail)

    def _say(self, refused: Refused) -> None:
        """Answer the request being read with a refusal, unless an answer has begun."""
        cycle = self.cycle
        status, body = self._budgets.refused(refused)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if getattr(cycle, "response_started", False):
                return
        self.transport.write(refusal(status, self._common_headers(), refused.retry_after_s, body))

    def _linger(self) -> None:
        """Half-close and release everything; ``check_time`` closes once the client has had time to read the answer."""
        self._ended = True
        self.waiting_since = time.monotonic()
        self.is_idle = True
        self._held = b""
        self._account.release(0)
        self._let_go()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()

    def _common_headers(self) -> bytes:
        """The headers of every answer, such as Date, cached: uvicorn makes a new list of them each second."""
        budgets, made_of = self._budgets, self.server_state.default_headers
        if budgets.common_headers[0] is not made_of:
            budgets.common_headers = (made_of, b"".join([b"%b: %b\r\n" % pair for pair in made_of]))
        return budgets.common_headers[1]

    def _let_go(self) -> None:
        """Drop the last request, so that an idle connection takes little memory."""
        self.headers, self.url = NOWHERE, b""
        self.scope = self.cycle = None  # type: ignore[assignment] # as before the first request
