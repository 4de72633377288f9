"""Batching without sockets: one request's clicks, and the lane that gathers them into blocks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from ingest.contract.position import BLOCK_CLICKS_MAX
from ingest.contract.rejection import Reason

#: Below Kafka's default limit of 1,048,588 bytes per record batch.
BLOCK_MAX_BYTES: Final = 900_000
_log = structlog.get_logger(__name__)


class Placed(msgspec.Struct, frozen=True, gc=False):
    """Where a request's first click stands in the log; its others follow.

    All None: in the spool. Only ``offset`` None: Kafka had already stored the block on an earlier attempt and did not
    return its offset.
    """

    partition: int | None
    offset: int | None
    index: int | None


class RequestClicks:
    """One request's clicks, encoded, and the callback for their outcome."""

    __slots__ = ("answer", "clicks", "lines")

    def __init__(self, lines: bytes, clicks: int, answer: Callable[[Placed | Reason], None]) -> None:
        self.lines = lines
        self.clicks = clicks
        self.answer = answer

    def tell(self, place: Placed | Reason) -> None:
        """Answer the request. An error in one answer must not affect the others of its block."""
        try:
            self.answer(place)
        except Exception:  # noqa: BLE001 - any error concerns this request alone
            _log.exception("cannot answer a request")


class Lane:
    """The requests waiting for one partition's next block."""

    __slots__ = ("_chunks", "filled")

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, RequestClicks]] = deque()
        self.filled = asyncio.Event()

    def put(self, member_hash: int, chunk: RequestClicks) -> None:
        """Queue a request's clicks."""
        self._chunks.append((member_hash, chunk))
        self.filled.set()

    def take(self) -> list[tuple[int, RequestClicks]]:
        """Remove and return the requests of the next block: as many as fit into one record."""
        block: list[tuple[int, RequestClicks]] = []
        length = clicks = 0
        while self._chunks:
            chunk = self._chunks[0][1]
            length += len(chunk.lines) + 1
            clicks += chunk.clicks
            if block and (length > BLOCK_MAX_BYTES or clicks > BLOCK_CLICKS_MAX):
                return block
            block.append(self._chunks.popleft())
        self.filled.clear()
        return block

    def empty(self) -> list[tuple[int, RequestClicks]]:
        """Remove and return everything."""
        chunks = list(self._chunks)
        self._chunks.clear()
        self.filled.clear()
        return chunks
