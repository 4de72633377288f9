"""A minimal HTTP/1.1 client for load, benchmarks and the demo.

With asyncio protocols, persistent connections and requests as bytes, it is cheap enough for one core to send several
thousand requests a second on time. Each connection has one request in flight, as a page's beacon does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ingest.runtime.backoff import backoff_s

_RECONNECT_FIRST_S: Final = 0.05
_RECONNECT_MAX_S: Final = 1.0
#: Statuses after which a request is retried unchanged; 0 means no answer.
RETRY_STATUSES: Final = frozenset({0, 408, 429, 500, 502, 503, 504})
#: How often the pool checks for requests that have timed out.
_LOOK_EVERY_S: Final = 0.25


@dataclass(slots=True)
class Reply:
    """The answer to one request: status and body, or status 0 and an error."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None
    error: str = ""


OnReply = Callable[[Reply], None]
#: Makes a request's bytes for the server at this address; None cancels the request.
MakeRequest = Callable[[str], bytes | None]


def post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """The bytes of one POST."""
    address = urlsplit(url)
    lines = [f"POST {address.path} HTTP/1.1", f"host: {address.netloc}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection(asyncio.Protocol):
    """One connection with at most one request in flight. It reconnects until closed."""

    def __init__(self, pool: Pool, url: str) -> None:
        address = urlsplit(url)
        self.url = url
        self._pool = pool
        self._address = (address.hostname or "127.0.0.1", address.port or 80)
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._on_reply: OnReply | None = None
        self._sent_at = 0.0
        self._closed = False

    async def connect(self) -> None:
        """Connect, retrying with backoff."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._closed:
            try:
                async with asyncio.timeout(self._pool.timeout_s):
                    await loop.create_connection(lambda: self, *self._address, local_addr=self._pool.local_address)
            except (OSError, TimeoutError):
                await asyncio.sleep(backoff_s(failures, first_s=_RECONNECT_FIRST_S, max_s=_RECONNECT_MAX_S))
                failures += 1
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # TCP connections have the full interface
        self._received = b""
        self._pool.free(self)

    def send(self, request: bytes, on_reply: OnReply) -> bool:
        """Send a request; False when the connection was lost and the caller must use another."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._on_reply = on_reply
        self._sent_at = time.monotonic()
        self._transport.write(request)
        return True

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head, found, rest = received.partition(b"\r\n\r\n")
        low = head.lower()
        length = _number(low, b"content-length:")
        if not found or len(rest) < (length or 0):
            self._received = received
            return
        self._received = b""
        status = int(head[9:12])
        reply = Reply(status, rest, _number(low, b"retry-after:") if status >= 400 else None)
        if b"connection: close" in low and self._transport is not None:
            self._transport.close()
            self._finish(reply)
        else:
            self._finish(reply)
            self._pool.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish(Reply(0, error=f"connection lost: {exc or 'closed'}"))
        if not self._closed:
            self._pool.reconnect(self)

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    def end_if_sent_before(self, at_s: float) -> None:
        """Give up on a request that was sent before this monotonic time."""
        if self._on_reply is not None and self._sent_at < at_s:
            self._finish(Reply(0, error="no answer in time"))
            if self._transport is not None:
                self._transport.abort()

    def _finish(self, reply: Reply) -> None:
        on_reply, self._on_reply = self._on_reply, None
        if on_reply is not None:
            on_reply(reply)


class Pool:
    """Connections to one or more servers, and a queue of requests for the next free one."""

    def __init__(self, urls: Sequence[str], connections: int, timeout_s: float, *, source: str | None = None) -> None:
        """``source`` is the local address to connect from."""
        self.timeout_s = timeout_s
        self.local_address = (source, 0) if source else None
        self.waiting: deque[tuple[MakeRequest, OnReply]] = deque()
        self._free: deque[_Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._connections = [_Connection(self, urls[number % len(urls)]) for number in range(connections)]

    def open(self) -> None:
        """Start connecting; requests may be queued at once."""
        for connection in self._connections:
            self.reconnect(connection)
        self._looking = asyncio.get_running_loop().create_task(self._look_for_late_answers())

    async def wait_open(self) -> None:
        """Wait until every connection is open."""
        await asyncio.gather(*self._tasks)

    def send(self, make: MakeRequest, on_reply: OnReply) -> None:
        """Send when a connection is free; ``make`` is called then, with the server's address."""
        self.waiting.append((make, on_reply))
        if self._free:
            self.free(self._free.popleft())

    async def request(self, make: MakeRequest) -> Reply:
        """``send`` as a coroutine. Status 0 also means that no connection was free in time."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.send(
            lambda url: None if answer.done() else make(url),
            lambda reply: None if answer.done() else answer.set_result(reply),
        )
        try:
            async with asyncio.timeout(2 * self.timeout_s):
                return await answer
        except TimeoutError:
            return Reply(0, error="no connection in time")

    def free(self, connection: _Connection) -> None:
        """Give a free connection the next request."""
        while self.waiting:
            make, on_reply = self.waiting.popleft()
            request = make(connection.url)
            if request is None:
                continue
            if not connection.send(request, on_reply):
                on_reply(Reply(0, error="connection lost before sending"))
            return
        self._free.append(connection)

    def reconnect(self, connection: _Connection) -> None:
        """Connect in the background."""
        if connection in self._free:
            self._free.remove(connection)
        task = asyncio.get_running_loop().create_task(connection.connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Abort all connections."""
        for connection in self._connections:
            connection.close()
        for task in (self._looking, *self._tasks):
            if task is not None:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _look_for_late_answers(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self.timeout_s / 4))
            for connection in self._connections:
                connection.end_if_sent_before(time.monotonic() - self.timeout_s)


def _number(head: bytes, name: bytes) -> int | None:
    """The value of a numeric header; ``name`` includes its colon, and it and ``head`` are in lower case."""
    at = head.find(name)
    if at < 0:
        return None
    end = head.find(b"\r\n", at)
    text = head[at + len(name) : end if end >= 0 else None].strip()
    return int(text) if text.isdigit() else None
