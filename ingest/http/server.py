"""The server's connection, with a shorter path for beacons.

uvicorn makes a scope, a cycle, an event and a task for each request. A beacon needs none of them: its complete body
goes to ``Beacon.take``, and the answer is one write. That halves the cost of a click (`flattr bench ingest`).
Everything else takes uvicorn's path. The bounds of both are in ingest/http/connection.py.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Protocol

from ingest.admission.request import Request
from ingest.contract.rejection import Reason
from ingest.http.beacon import PATHS, Beacon, Headers
from ingest.http.connection import Connection
from ingest.runtime.refusal import Refused

_PATHS: Final = {path.encode(): path for path in PATHS}


class HasBeacon(Protocol):
    """What the served app must have, besides its budgets."""

    beacon: Beacon


class _Signal:
    """Replaces uvicorn's asyncio.Event, as nothing here waits for it."""

    def set(self) -> None:
        """Do nothing."""


class _BeaconCycle:
    """One beacon request and its answer, with the interface of uvicorn's request cycle."""

    __slots__ = ("_connection", "body", "disconnected", "keep_alive", "pieces", "request", "response_complete")

    message_event: Final = _Signal()

    def __init__(self, connection: BeaconProtocol, request: Request, *, keep_alive: bool) -> None:
        self._connection = connection
        self.request = request
        self.body = b""
        self.pieces: bytearray | None = None
        self.disconnected = False
        self.keep_alive = keep_alive
        self.response_complete = False

    def gathered(self) -> bytes:
        """The body received so far."""
        return self.body if self.pieces is None else bytes(self.pieces)

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Write the answer; later calls do nothing."""
        if self.response_complete:
            return
        self.response_complete = True
        if not self.disconnected:
            self._connection.write_answer(self, status, headers, body)


class BeaconProtocol(Connection):
    """One connection to ingest."""

    __slots__ = ("_beacon", "_beacon_cycle")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on unchanged
        super().__init__(*args, **kwargs)
        app: HasBeacon = self.app
        self._beacon = app.beacon
        self._beacon_cycle: _BeaconCycle | None = None

    def _open(self, method: bytes) -> None:
        """Send a beacon down the shorter path, and everything else down uvicorn's."""
        address, _, query = self.url.partition(b"?")
        path = _PATHS.get(address)
        if path is None or self.expect_100_continue:
            self._beacon_cycle = None
            super()._open(method)
            return
        request = Request(method.decode(), path, query, self.headers, self._account.holder.name)
        cycle = _BeaconCycle(self, request, keep_alive=self.parser.should_keep_alive() and not self._is_old)
        self._beacon_cycle = cycle
        self.cycle = cycle  # type: ignore[assignment] # has what HttpToolsProtocol needs of a cycle

    def _gather(self, body: bytes) -> None:
        cycle = self._beacon_cycle
        if cycle is None:
            super()._gather(body)
        elif cycle.pieces is not None:
            cycle.pieces += body
        elif cycle.body:
            cycle.pieces = bytearray(cycle.body)
            cycle.pieces += body
            cycle.body = b""
        else:
            cycle.body = body

    def _whole(self) -> None:
        cycle = self._beacon_cycle
        if cycle is None:
            super()._whole()
        else:
            self._beacon.take(cycle.request, cycle.gathered(), cycle.reply)

    def _refuse_unread(self, reason: Reason, detail: str) -> None:
        if self.url.partition(b"?")[0] in _PATHS:
            self.expect_100_continue = False
            self._open(self.parser.get_method())
        super()._refuse_unread(reason, detail)

    def _say(self, refused: Refused) -> None:
        """Refuse a beacon through the beacon itself, which adds the CORS headers a page needs to read the answer."""
        cycle = self._beacon_cycle
        if self._in_body and cycle is not None and not cycle.response_complete:
            self._beacon.refuse(cycle.request, refused, cycle.gathered(), cycle.reply)
        else:
            super()._say(refused)

    def _let_go(self) -> None:
        self._beacon_cycle = None
        super()._let_go()

    def write_answer(self, cycle: _BeaconCycle, status: int, headers: Headers, body: bytes) -> None:
        """Status line, headers and body in one write."""
        closing = not cycle.keep_alive or self._in_message
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
        if closing and not self._in_message:
            self.transport.close()
        self.on_response_complete()


@lru_cache(1024)
def _head(status: int, headers: Headers) -> bytes:
    """The status line and the cacheable headers."""
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in headers if name != b"connection"]
    return b"\r\n".join([*lines, b""])
