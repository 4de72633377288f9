"""Clients that mean harm, for a port that should bear them: ingest's or the read API's.

Each attacks for so many seconds and says what it got through. None waits for an answer that it does not want, and
each comes back as often as it is thrown out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Final

_CHUNK: Final = 64 * 1024
#: The attackers' own address may be another one of this machine's, such as 127.0.0.2.
_SOURCE: Final = "127.0.0.1"


@dataclass
class Stats:
    """What an attack got through."""

    connections: int = 0
    #: Connections that were refused, or ended by the server.
    ended: int = 0
    sent_bytes: int = 0


Attack = Callable[..., Coroutine[Any, Any, Stats]]


@dataclass
class _Target:
    host: str
    port: int
    until: float
    source: str
    stats: Stats

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.stats.connections += 1
        return await asyncio.open_connection(self.host, self.port, local_addr=(self.source, 0))

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send all of it. Raises ``ConnectionError`` when the server has had enough, ``TimeoutError`` at the end."""
        writer.write(data)
        async with asyncio.timeout(max(0.01, self.until - time.monotonic())):
            await writer.drain()
        if writer.transport.is_closing():
            raise ConnectionResetError
        self.stats.sent_bytes += len(data)

    async def pump(self, first: bytes, again: bytes) -> None:
        """Send the same for ever, and never read."""
        while not self.is_over:
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await self.open()
                # What the server says is not taken from the socket: the reader would grow, not the server.
                reader._transport.pause_reading()  # type: ignore[attr-defined] # noqa: SLF001 - that is the attack
                try:
                    await self.send(writer, first)
                    while not self.is_over:
                        await self.send(writer, again)
                except ConnectionError:
                    self.stats.ended += 1
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    async def dribble(self, first: bytes, again: bytes, every_s: float) -> None:
        """Send a little now and then, and come back when thrown out."""
        while not self.is_over:
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await self.open()
                try:
                    await self.send(writer, first)
                    while not self.is_over and not await _ends(reader, every_s):
                        if again:
                            await self.send(writer, again)
                    self.stats.ended += not self.is_over
                except ConnectionError:
                    self.stats.ended += 1
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)


async def _ends(reader: asyncio.StreamReader, wait_s: float) -> bool:
    """Whether the server ends the connection within so long."""
    try:
        async with asyncio.timeout(wait_s):
            while await reader.read(_CHUNK):
                pass
    except TimeoutError:
        return False
    return True


async def _run(target: _Target, attackers: int, one: Callable[[_Target], Awaitable[None]]) -> Stats:
    await asyncio.gather(*(one(target) for _ in range(attackers)))
    return target.stats


def _target(host: str, port: int, seconds: float, source: str) -> _Target:
    return _Target(host, port, time.monotonic() + seconds, source, Stats())


def _post(more: bytes) -> bytes:
    return b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\n" + more


async def trailers(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """Chunks that end, and trailers that do not."""
    first = _post(b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n")
    line = b"x-trailer: " + b"y" * 1000 + b"\r\n"
    target = _target(host, port, seconds, source)
    return await _run(target, 2, lambda one: one.pump(first, line * 64))


async def chunk_extensions(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """A chunk whose size line does not end."""
    first = _post(b"transfer-encoding: chunked\r\n\r\n1;a=")
    target = _target(host, port, seconds, source)
    return await _run(target, 2, lambda one: one.pump(first, b"b" * _CHUNK))


async def tiny_chunks(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """A body of chunks of one byte."""
    first = _post(b"transfer-encoding: chunked\r\n\r\n")
    target = _target(host, port, seconds, source)
    return await _run(target, 2, lambda one: one.pump(first, b"1\r\n[\r\n" * 10_000))


async def endless_head(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """A header that does not end."""
    first = b"GET /live HTTP/1.1\r\nhost: x\r\nx-filler: "
    target = _target(host, port, seconds, source)
    return await _run(target, 2, lambda one: one.pump(first, b"y" * _CHUNK))


async def endless_headers(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """Headers without end, short ones: each costs more in memory than on the wire."""
    first = b"GET /live HTTP/1.1\r\nhost: x\r\n"
    target = _target(host, port, seconds, source)
    return await _run(target, 2, lambda one: one.pump(first, b"a:b\r\n" * 10_000))


async def slow_head(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """500 heads that grow by a byte a second."""
    first = b"GET /live HTTP/1.1\r\nhost: x\r\nx-filler: "
    target = _target(host, port, seconds, source)
    return await _run(target, 500, lambda one: one.dribble(first, b"y", 1.0))


async def blank_lines(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """Empty lines where a request should begin."""
    target = _target(host, port, seconds, source)
    return await _run(target, 2, lambda one: one.pump(b"\r\n", b"\r\n" * (_CHUNK // 2)))


async def unread_answers(
    host: str, port: int, seconds: float, *, path: str = "/openapi.json", source: str = _SOURCE
) -> Stats:
    """Requests behind each other whose answers nobody reads, on 20 connections."""
    request = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode()
    target = _target(host, port, seconds, source)
    return await _run(target, 20, lambda one: one.pump(request, request * 1000))


async def unread_refusals(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """Clicks without a token behind each other, whose refusals nobody reads."""
    request = _post(b"content-length: 2\r\n\r\n{}")
    target = _target(host, port, seconds, source)
    return await _run(target, 4, lambda one: one.pump(request, request * 1000))


async def half_bodies(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """1,500 batches of clicks of which all but the last bytes come."""
    return await _half(_target(host, port, seconds, source), b"/v1/clicks", 500_000)


async def half_forms(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """1,500 keys of the read API that do not end."""
    return await _half(_target(host, port, seconds, source), b"/login", 4000)


async def _half(target: _Target, path: bytes, size: int) -> Stats:
    first = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path, size + 10)
    first += b"[" * size
    return await _run(target, 1500, lambda one: one.dribble(first, b"", 0.5))


async def idle_connections(host: str, port: int, seconds: float, *, source: str = _SOURCE) -> Stats:
    """3,000 connections that say nothing."""
    target = _target(host, port, seconds, source)
    return await _run(target, 3000, lambda one: one.dribble(b"", b"", 0.5))


#: By name, for whoever runs them all.
ATTACKS: Final[dict[str, Attack]] = {
    one.__name__: one
    for one in (
        trailers,
        chunk_extensions,
        tiny_chunks,
        endless_head,
        endless_headers,
        slow_head,
        blank_lines,
        unread_answers,
        unread_refusals,
        half_bodies,
        half_forms,
        idle_connections,
    )
}


def main() -> None:
    """Run one attack by name, in a process of its own: NAME HOST PORT SECONDS. Prints what it got through as JSON."""
    name, host, port, seconds = sys.argv[1:]
    print(json.dumps(asdict(asyncio.run(ATTACKS[name](host, int(port), float(seconds))))))


if __name__ == "__main__":
    main()
