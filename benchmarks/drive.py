"""A load on one server of this machine, of requests built beforehand, and what came back.

Closed loop: every connection sends its next request when it has its answer; it finds the throughput.
Open loop: requests are due at a fixed rate, whatever the answers do, and latency is counted from when a
request was due, so that a server's pause is felt by everybody who would have come in it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from hdrh.histogram import HdrHistogram

from deploy.proving.load.client import Pool, Reply

#: To build requests with; ``drive`` is told the port.
CLICKS_URL: Final = "http://127.0.0.1/v1/clicks"
#: As the histogram: a minute.
_TIMEOUT_S: Final = 60.0


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


class _Load:
    """Hands requests to a pool of connections and notes what comes back. ``rate`` is None in a closed loop."""

    def __init__(self, pool: Pool, requests: Sequence[bytes], rate: float | None) -> None:
        self.outcome = Outcome()
        self._pool = pool
        self._requests = itertools.cycle(requests)
        self._rate = rate
        self._running = True

    async def run(self, seconds: float, connections: int) -> Outcome:
        """Send for so long."""
        began = time.perf_counter()
        if self._rate is None:
            for _ in range(connections):
                self._send(time.perf_counter())
            await asyncio.sleep(seconds)
        else:
            await self._keep_rate(self._rate, began, seconds)
        self._running = False
        self.outcome.seconds = time.perf_counter() - began
        return self.outcome

    def _send(self, began: float) -> None:
        self._pool.send(self._make, partial(self._answered, began))

    def _make(self, _url: str) -> bytes:
        return next(self._requests)

    def _answered(self, began: float, reply: Reply) -> None:
        if self._running:
            now = time.perf_counter()
            self.outcome.statuses[reply.status] += 1
            self.outcome.latency_us.record_value(max(1, int((now - began) * 1e6)))
            if self._rate is None:
                self._send(now)

    async def _keep_rate(self, rate: float, began: float, seconds: float) -> None:
        sent = 0
        while (now := time.perf_counter()) < began + seconds:
            while began + sent / rate <= now:
                self._send(began + sent / rate)
                sent += 1
            await asyncio.sleep(0.001)
        # Whoever still waits counts, with the time waited so far.
        while self._pool.waiting:
            _, answered = self._pool.waiting.popleft()
            answered(Reply(0, error="not sent in time"))


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
    pool = Pool([f"http://127.0.0.1:{port}"], connections, _TIMEOUT_S, source=source)
    pool.open()
    await pool.wait_open()
    outcome = await _Load(pool, requests, rate).run(seconds, connections)
    await pool.close()
    await asyncio.sleep(0.05)
    return outcome
