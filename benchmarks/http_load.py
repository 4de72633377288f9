"""A load client that costs little: raw HTTP/1.1 over asyncio protocols, kept-alive, requests built beforehand.

Closed loop: every connection sends its next request when it has its answer; it finds the throughput.
Open loop: requests are due at a fixed rate, whatever the answers do, and latency is counted from when a
request was due, so that a server's pause is felt by everybody who would have come in it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram


@dataclass
class Outcome:
    """What came back: answers by status, latencies, and how long it took."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    #: In microseconds, up to a minute, to three digits.
    latency_us: HdrHistogram = field(default_factory=lambda: HdrHistogram(1, 60_000_000, 3))

    def per_s(self, *statuses: int) -> float:
        """Answers a second with one of these statuses."""
        return sum(self.statuses[status] for status in statuses) / self.seconds

    def quantile_ms(self, percent: float) -> float:
        """Latency at a percentile."""
        return float(self.latency_us.get_value_at_percentile(percent)) / 1000


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # TCP connections have the full interface
        self._load.idle(self)

    def send(self, request: bytes, began: float) -> None:
        self._began = began
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head, found, rest = received.partition(b"\r\n\r\n")
        at = head.lower().find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if not found or len(rest) < length:
            self._received = received
            return
        self._received = b""
        self._load.answered(int(head[9:12]), self._began)
        self._load.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._load.lost()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Load:
    """Deals requests to connections. ``rate`` is None in a closed loop."""

    def __init__(self, requests: Sequence[bytes], rate: float | None) -> None:
        self.outcome = Outcome()
        self._requests = requests
        self._next = 0
        self._rate = rate
        self._running = False
        self._idle: deque[_Connection] = deque()
        self._due: deque[float] = deque()

    def idle(self, connection: _Connection) -> None:
        """A connection can take a request."""
        if not self._running:
            self._idle.append(connection)
        elif self._rate is None:
            connection.send(self._request(), time.perf_counter())
        elif self._due:
            connection.send(self._request(), self._due.popleft())
        else:
            self._idle.append(connection)

    def answered(self, status: int, began: float) -> None:
        if self._running:
            self.outcome.statuses[status] += 1
            self.outcome.latency_us.record_value(max(1, int((time.perf_counter() - began) * 1e6)))

    def lost(self) -> None:
        if self._running:
            self.outcome.statuses[0] += 1

    async def run(self, seconds: float) -> Outcome:
        """Send for so long."""
        self._running = True
        began = time.perf_counter()
        if self._rate is None:
            idle, self._idle = self._idle, deque()
            for connection in idle:
                connection.send(self._request(), time.perf_counter())
            await asyncio.sleep(seconds)
        else:
            await self._keep_rate(self._rate, began, seconds)
        self._running = False
        self.outcome.seconds = time.perf_counter() - began
        return self.outcome

    async def _keep_rate(self, rate: float, began: float, seconds: float) -> None:
        sent = 0
        while (now := time.perf_counter()) < began + seconds:
            while began + sent / rate <= now:
                due = began + sent / rate
                sent += 1
                if self._idle:
                    self._idle.popleft().send(self._request(), due)
                else:
                    self._due.append(due)
            await asyncio.sleep(0.001)
        # Whoever still waits counts, with the time waited so far.
        for due in self._due:
            self.outcome.statuses[0] += 1
            self.outcome.latency_us.record_value(max(1, int((time.perf_counter() - due) * 1e6)))

    def _request(self) -> bytes:
        self._next = (self._next + 1) % len(self._requests)
        return self._requests[self._next]


async def drive(  # noqa: PLR0913 - where, what, how long, how many, how often, from where
    port: int,
    requests: Sequence[bytes],
    *,
    seconds: float,
    connections: int,
    rate: float | None = None,
    source: str = "127.0.0.1",
) -> Outcome:
    """Send ``requests`` round and round to a server on this machine, from an address of the loopback range."""
    load = _Load(requests, rate)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port, local_addr=(source, 0))
        for _ in range(connections)
    ]
    outcome = await load.run(seconds)
    for _, connection in made:
        connection.close()
    await asyncio.sleep(0.05)
    return outcome


def post(path: str, body: bytes, headers: dict[str, Any]) -> bytes:
    """The bytes of one POST."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
