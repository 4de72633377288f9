"""The life of a connection: who it is, what it holds, when it has to end, and how it is told so.

What is read from it is in ingest/http/connection.py.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.admission.refusal import Refused
from ingest.contract.rejection import Reason
from ingest.http.budgets import Account, AddressShare, Budgets
from ingest.http.rfc9112 import Nowhere, refusal
from ingest.runtime.client_address import is_trusted, share_of

#: Answers wait here when they are not taken; with more in it, nothing is read.
_UNREAD_HIGH_BYTES: Final = 16 * 1024
#: After a refusal its sender has so long to see why.
_LINGER_S: Final = 2.0
NOWHERE: Final = Nowhere()
#: What no host is called.
NO_HOST: Final = b"\0"
FULL: Final = "this server is full at the moment: come again"


class Lifetime(HttpToolsProtocol):
    """One connection. The app it serves has ``state.budgets``."""

    # uvicorn has as many attributes as Python finds fast by name; these are found by place.
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__(*args, **kwargs)
        self._budgets: Budgets = self.app.state.budgets
        self._bounds = self._budgets.bounds
        #: Since when a request is incomplete, or the connection idle; 0 while an answer is awaited.
        self.waiting_since = time.monotonic()
        self.is_idle = True
        self._is_proxy = False
        self._account: Account = None  # type: ignore[assignment] # known when the peer is
        #: Between the first byte of a request and its last.
        self._in_message = False
        self._in_body = False
        #: Nothing that comes is read any more.
        self._ended = False
        self._upgrading = False
        #: Of the last head: the host that it named, when that was in order, and how its body is framed.
        self._host = NO_HOST
        self._is_chunked = False
        self._is_old = False
        #: What came behind a request that is not answered yet, and how far it is read.
        self._held = b""
        self._held_at = 0
        self._dropped = 0
        self._unread_since = 0.0
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of the next request."""
        #: Bytes that came for this request and are not of its body.
        self._outside_bytes = 0
        self._body_bytes = 0
        #: Bytes of the body that are to come, where a length was announced.
        self._left_bytes = 0
        self._has_body_clock = False
        #: The last three bytes that were read.
        self._tail = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take a new connection in, or turn it away when there is no room."""
        super().connection_made(transport)
        host = self.client[0] if self.client else None
        self._is_proxy = is_trusted(host, self._bounds.trusted_proxies)
        self._account = self._budgets.account(share_of(host), is_limited=not self._is_proxy)
        transport.set_write_buffer_limits(high=_UNREAD_HIGH_BYTES)
        if not self._budgets.join(self):
            self._say(Refused(Reason.CONNECTIONS_FULL, FULL))
            self.give_way(Reason.CONNECTIONS_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._ended = True
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        self._held = b""
        self._account.release(0)
        self._budgets.leave(self)

    def check_time(self, now: float) -> int:
        """End the connection if its client is too slow. The bytes of answers that it has not taken."""
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
        """Whether it holds bytes that are no whole request yet."""
        return not self._ended and bool(self._account.charged) and (self._in_message or bool(self._held))

    @property
    def held_bytes(self) -> int:
        """What it holds of its requests."""
        return self._account.charged

    @property
    def share(self) -> AddressShare:
        """Its peer's."""
        return self._account.own

    @property
    def holder(self) -> AddressShare:
        """Whose share the present request is in: the peer's, or that of whom a trusted proxy speaks for."""
        return self._account.holder

    def give_way(self, reason: Reason) -> None:
        """End at once; what is under way is told why, or still answered."""
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
        """Whether a whole request waits for its answer."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not self._in_message

    def _stop_reading(self) -> None:
        """No request is read after the one that is being answered."""
        self._ended = True
        self._account.charge(-len(self._held))
        self._held = b""
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def refuse(self, reason: Reason, detail: str) -> None:
        """Refuse what cannot be read on, and end the connection when its client has seen why."""
        if not self._ended:
            self._say(Refused(reason, detail))
            self._linger()

    def _refuse_unread(self, reason: Reason, detail: str) -> None:
        """Refuse a request whose head is right, before its body."""
        self.refuse(reason, detail)

    def _say(self, refused: Refused) -> None:
        """Answer the request that is being read, unless its answer has begun."""
        cycle = self.cycle
        status, body = self._budgets.refused(refused)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if getattr(cycle, "response_started", False):
                return
        self.transport.write(refusal(status, self._common_headers(), refused.retry_after_s, body))

    def _linger(self) -> None:
        """Say that nothing more comes, and let go of everything; close when the client has had time to see it."""
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
        """The headers of every answer, such as Date: uvicorn makes a new list of them each second."""
        budgets, made_of = self._budgets, self.server_state.default_headers
        if budgets.common_headers[0] is not made_of:
            budgets.common_headers = (made_of, b"".join([b"%b: %b\r\n" % pair for pair in made_of]))
        return budgets.common_headers[1]

    def _let_go(self) -> None:
        """An idle connection keeps nothing of its last request."""
        self.headers, self.url = NOWHERE, b""
        self.scope = self.cycle = None  # type: ignore[assignment] # as before the first request
