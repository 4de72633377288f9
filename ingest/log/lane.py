"""What travels together: a request's chunk of clicks, and the lane that gathers chunks into blocks. No socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from ingest.contract.position import BLOCK_CLICKS_MAX
from ingest.contract.rejection import Reason

#: Kafka takes 1,048,588 bytes a record batch unless told otherwise.
BLOCK_MAX_BYTES: Final = 900_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a chunk's first click stands in the log; the others follow it.

    All None: in the spool, on its way. ``offset`` alone is None when Kafka, asked again, knew the block but
    not where.
    """

    partition: int | None
    offset: int | None
    index: int | None


class RequestClicks:
    """One request's clicks, encoded, and who is to be told what became of them."""

    __slots__ = ("answer", "clicks", "lines")

    def __init__(self, lines: bytes, clicks: int, answer: Callable[[Placed | Reason], None]) -> None:
        self.lines = lines
        self.clicks = clicks
        self.answer = answer

    def tell(self, place: Placed | Reason) -> None:
        """Answer the request; a mistake in its answer is not to take the others of its block along."""
        try:
            self.answer(place)
        except Exception:  # noqa: BLE001 - whatever it is, it is that request's alone
            _log.exception("an answer could not be given")


class Lane:
    """What waits for one partition's next block."""

    __slots__ = ("_chunks", "filled", "first_at")

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, RequestClicks]] = deque()
        self.filled = asyncio.Event()
        self.first_at = 0.0

    def put(self, member_hash: int, chunk: RequestClicks) -> None:
        """Queue a chunk."""
        if not self._chunks:
            self.first_at = asyncio.get_running_loop().time()
            self.filled.set()
        self._chunks.append((member_hash, chunk))

    def take(self) -> list[tuple[int, RequestClicks]]:
        """The next block's chunks: as many as one record holds."""
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
        """Everything, at once."""
        chunks = list(self._chunks)
        self._chunks.clear()
        self.filled.clear()
        return chunks
