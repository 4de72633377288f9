"""A TCP proxy that can cut, stall or slow down connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from enum import StrEnum
from typing import Final

from deploy.stack.embedded import HOST, free_port

_CHUNK_BYTES: Final = 65_536
#: The delay of each chunk in mode SLOW.
SLOW_S: Final = 0.2


class Mode(StrEnum):
    """What a proxy does with bytes."""

    PASS = "pass"  # noqa: S105 - not a password
    CUT = "cut"  # reset all connections, including new ones
    STALL = "stall"  # hold all bytes, like a network that silently drops packets
    SLOW = "slow"  # delay every chunk by SLOW_S


class Proxies:
    """Any number of proxies on one event loop in its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.made: list[Proxy] = []

    def before(self, target: int) -> Proxy:
        """A proxy on a free port, in front of a port of this machine."""
        proxy = Proxy(self._loop, free_port(), target)
        asyncio.run_coroutine_threadsafe(proxy.listen(), self._loop).result(10)
        self.made.append(proxy)
        return proxy

    def close(self) -> None:
        """Close all proxies."""
        for proxy in self.made:
            asyncio.run_coroutine_threadsafe(proxy.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Proxy:
    """One listening port and its target. ``target`` may be changed, which affects only new connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.mode = Mode.PASS
        self._loop = loop
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{HOST}:{self.port}"

    def set(self, mode: Mode) -> None:
        """Change the mode, from any thread."""
        asyncio.run_coroutine_threadsafe(self._set(mode), self._loop).result(10)

    async def _set(self, mode: Mode) -> None:
        self.mode = mode
        if mode is Mode.STALL:
            self._passing.clear()
        else:
            self._passing.set()
        if mode is Mode.CUT:
            for writer in list(self._writers):
                _abort(writer)

    async def listen(self) -> None:
        """Start listening."""
        self._server = await asyncio.start_server(self._connected, HOST, self.port)

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        await self._set(Mode.CUT)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._passing.wait()
            if self.mode is Mode.CUT:
                return
            await self._join(reader, writer)
        finally:
            self._writers.discard(writer)
            _abort(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        except OSError:
            return
        self._writers.add(far_writer)
        ways = [
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        ]
        try:
            # When one side closes, close both: none of the protocols here uses half-closed connections.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.discard(far_writer)
            _abort(far_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if self.mode is Mode.SLOW:
                    await asyncio.sleep(SLOW_S)
                await self._passing.wait()
                writer.write(chunk)
                await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Send a reset, as a cut network does: with SO_LINGER 0, close sends RST instead of FIN."""
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
