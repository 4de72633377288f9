"""Batching without sockets: one request's clicks, and the lane that gathers them into blocks."""

from __future__ import annotations

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
    """One request's clicks, encoded: whose, as a hash; when they came; and the callback for their outcome."""

    __slots__ = ("answer", "clicks", "lines", "member_hash", "received_at")

    def __init__(
        self, member_hash: int, lines: bytes, clicks: int, received_at: int, answer: Callable[[Placed | Reason], None]
    ) -> None:
        self.member_hash = member_hash
        self.lines = lines
        self.clicks = clicks
        self.received_at = received_at
        self.answer = answer

    def tell(self, place: Placed | Reason) -> None:
        """Answer the request. An error in one answer must not affect the others of its block."""
        try:
            self.answer(place)
        except Exception:  # noqa: BLE001 - any error concerns this request alone
            _log.exception("cannot answer a request")


class Lane:
    """The requests waiting for one partition's next block."""

    __slots__ = ("_chunks", "asked", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        #: Whether the sender was asked to take the next block.
        self.asked = False
        self._chunks: deque[RequestClicks] = deque()

    @property
    def filled(self) -> bool:
        """Whether a request waits."""
        return bool(self._chunks)

    def put(self, chunk: RequestClicks) -> None:
        """Queue a request's clicks."""
        self._chunks.append(chunk)

    def take(self) -> list[RequestClicks]:
        """Remove and return the requests of the next block: as many as fit into one record."""
        block: list[RequestClicks] = []
        length = clicks = 0
        while self._chunks:
            chunk = self._chunks[0]
            length += len(chunk.lines) + 1
            clicks += chunk.clicks
            if block and (length > BLOCK_MAX_BYTES or clicks > BLOCK_CLICKS_MAX):
                return block
            block.append(self._chunks.popleft())
        return block

    def empty(self) -> list[RequestClicks]:
        """Remove and return everything."""
        chunks = list(self._chunks)
        self._chunks.clear()
        return chunks
