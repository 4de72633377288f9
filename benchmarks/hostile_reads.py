"""What strangers do to the read API: each attack is a coroutine ``attack(base_url, seconds) -> Stats``.

Run beside honest traffic they show what one client decides about the others (`flattr bench hostile`,
tests/api/test_strangers.py). They speak HTTP/1.1 by hand, so that a client costs little beside the server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

_ANSWER_TIMEOUT_S: Final = 30
_HEAD_END: Final = b"\r\n\r\n"


@dataclass
class Stats:
    """What an attack got: answers by status, 0 for a connection that was lost; and how long each took, in s."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def quantile_s(self, part: float) -> float:
        """How long an answer took, at a quantile; 0 without any."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


Attack = Callable[[str, float], Coroutine[Any, Any, Stats]]


class Client:
    """One kept-alive connection."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> int:
        """The status of one answer, whose body is read and dropped; 0 when the connection is lost."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(f"GET {path} HTTP/1.1\r\nhost: {self._host}\r\n\r\n".encode("ascii"))
            return await asyncio.wait_for(_answer(reader), _ANSWER_TIMEOUT_S)
        except (OSError, EOFError, ValueError, TimeoutError):
            self.close()
            return 0

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(_HEAD_END)
    length = next(
        (int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    await reader.readexactly(length)
    return int(head[9:12])


async def ask_all(base_url: str, seconds: float, paths: Iterator[str], *, per_s: float, clients: int = 32) -> Stats:
    """Ask for one path after the other at a rate, over some connections, whatever the answers do.

    An answer's time counts from when its request was due, so that a server's pause is felt by all who come in it.
    """
    stats = Stats()
    began = time.monotonic()
    dues = (began + number / per_s for number in itertools.count())

    async def one() -> None:
        client = Client(base_url)
        while (due := next(dues)) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            stats.statuses[await client.get(next(paths))] += 1
            stats.seconds.append(time.monotonic() - due)
        client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return stats


def _months() -> Iterator[str]:
    for number in itertools.count():
        yield f"{2000 + number // 12 % 248}-{number % 12 + 1:02}"


async def distinct_months(base_url: str, seconds: float) -> Stats:
    """Counters of one thing in one month after the other, forty times a second."""
    return await ask_all(base_url, seconds, (f"/v1/counters?things={1:032x}&month={m}" for m in _months()), per_s=40)


def _long_query() -> str:
    """Nearly 30 kB that ask for one thing."""
    spellings = (f"thing={quote('https://a.example/?utm_x=')}{uuid4().hex}{'y' * 1900}" for _ in range(15))
    return f"/v1/counters?creator=anna&{'&'.join(spellings)}"


async def distinct_long_queries(base_url: str, seconds: float) -> Stats:
    """Long addresses, each another: what is kept by address grows with each."""
    return await ask_all(base_url, seconds, (_long_query() for _ in itertools.count()), per_s=300)


async def oversized_queries(base_url: str, seconds: float) -> Stats:
    """Addresses beyond any that mean something."""
    paths = (f"/v1/counters?things={1:032x}&{uuid4().hex}={'y' * 60_000}" for _ in itertools.count())
    return await ask_all(base_url, seconds, paths, per_s=100)


def _things(count: int) -> str:
    return ",".join(uuid4().hex for _ in range(count))


async def random_things(base_url: str, seconds: float) -> Stats:
    """A hundred things that nobody has, in each request others."""
    return await ask_all(
        base_url, seconds, (f"/v1/counters?things={_things(100)}" for _ in itertools.count()), per_s=60
    )


async def random_addresses(base_url: str, seconds: float) -> Stats:
    """Things by address, in many spellings: each costs its canonical form."""
    paths = (
        "/v1/counters?creator=anna&" + "&".join(f"thing={quote(f'https://a.example/{uuid4()}?b=ü')}" for _ in range(20))
        for _ in itertools.count()
    )
    return await ask_all(base_url, seconds, paths, per_s=40)


async def random_receipts(base_url: str, seconds: float) -> Stats:
    """Receipts of clicks that nobody made."""
    paths = (f"/v1/receipts/{uuid4()}?partition=0&offset=1" for _ in itertools.count())
    return await ask_all(base_url, seconds, paths, per_s=100)


async def many_listeners(base_url: str, seconds: float, count: int = 1900) -> Stats:
    """Clients of the live stream that read nothing, as many as there is room for; status 200 for each let in."""
    stats = Stats()
    address = urlsplit(base_url)
    writers: list[asyncio.StreamWriter] = []
    until = time.monotonic() + seconds
    for _ in range(count):
        with suppress(OSError, EOFError, ValueError, TimeoutError):
            reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2048)
            writers.append(writer)
            writer.write(b"GET /v1/live HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(_HEAD_END), _ANSWER_TIMEOUT_S)
            stats.statuses[int(head[9:12])] += 1
        if time.monotonic() > until:
            break
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    for writer in writers:
        writer.close()
    return stats


ATTACKS: Final[dict[str, Attack]] = {
    "distinct_months": distinct_months,
    "distinct_long_queries": distinct_long_queries,
    "oversized_queries": oversized_queries,
    "random_things": random_things,
    "random_addresses": random_addresses,
    "random_receipts": random_receipts,
    "many_listeners": many_listeners,
}


def main(name: str, base_url: str, seconds: float) -> None:
    """Run one attack in a process of its own, and print how often it got which status."""
    stats = asyncio.run(ATTACKS[name](base_url, seconds))
    print(json.dumps({str(status): count for status, count in stats.statuses.items()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
