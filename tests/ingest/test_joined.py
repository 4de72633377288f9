from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import uvloop

from ingest.http.joined import JoinedWrites


class _Answering(asyncio.Protocol):
    def __init__(self, answer: Callable[[JoinedWrites], None]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._answer(JoinedWrites(transport))  # type: ignore[arg-type]  # TCP has write


class _Hearing(asyncio.Protocol):
    """Notes what comes, as it comes."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def data_received(self, data: bytes) -> None:
        self.heard.put_nowait(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.heard.put_nowait(b"")


@asynccontextmanager
async def heard(answer: Callable[[JoinedWrites], None]) -> AsyncIterator[Callable[[], asyncio.Future[bytes]]]:
    """What a client hears of an answer, piece by piece; an empty piece at the end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answering(answer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, client = await loop.create_connection(_Hearing, "127.0.0.1", port)
    try:
        yield lambda: asyncio.ensure_future(asyncio.wait_for(client.heard.get(), 5))
    finally:
        transport.abort()
        server.close()


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


class _Noting(asyncio.Transport):
    """Notes each write. What a client reads does not tell: the kernel joins what it has not read yet."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))


def test_head_and_body_are_one_write_and_the_rest_follows() -> None:
    async def test() -> None:
        transport = _Noting()
        out = JoinedWrites(transport)
        for piece in (b"head ", b"body ", b"more"):
            out.write(piece)
        await asyncio.sleep(0)
        assert transport.written == [b"head body ", b"more"]

    run(test)


def test_head_does_not_wait_for_a_body_that_is_not_there_yet() -> None:
    bodies = asyncio.Queue[JoinedWrites]()

    def answer(out: JoinedWrites) -> None:
        out.write(b"head")
        bodies.put_nowait(out)

    async def test() -> None:
        async with heard(answer) as piece:
            assert await piece() == b"head"
            (await bodies.get()).write(b"body")
            assert await piece() == b"body"

    run(test)


def test_head_goes_out_before_the_connection_is_closed() -> None:
    def answer(out: JoinedWrites) -> None:
        out.write(b"head")
        out.close()
        assert out.is_closing()

    async def test() -> None:
        async with heard(answer) as piece:
            assert [await piece(), await piece()] == [b"head", b""]

    run(test)
