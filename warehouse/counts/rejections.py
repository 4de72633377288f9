"""Refused input as the warehouse has it. Blocks: call from a worker thread."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class RejectedId:
    """Where a refused record stands: it is its name on the command line, too."""

    topic: str
    partition: int
    position: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``topic:partition:position``. Raises ``ValueError``."""
        topic, partition, position = text.rsplit(":", 2)
        return cls(topic, int(partition), int(position))

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.position}"


@dataclass(frozen=True)
class Rejected:
    """One refused record with its bytes. ``member_id`` is empty when nobody had proved who they are.

    ``cut``: there was more of it than ``raw``. ``replayed_at_ms`` is 0 until all of it was sent in again.
    """

    id: RejectedId
    rejected_at_ms: int
    reason: str
    detail: str
    member_id: str
    site_id: str
    raw: bytes
    cut: bool = False
    replayed_at_ms: int = 0


def rejected(  # noqa: PLR0913 - each narrows it down
    warehouse: Warehouse,
    *,
    month: int = 0,
    reason: str = "",
    ids: Sequence[RejectedId] = (),
    limit: int = 100,
    replayed: bool = False,
) -> list[Rejected]:
    """Refused records, newest first; ``month`` (such as 202611), ``reason`` and ``ids`` narrow them down.

    What was replayed is left out, but for ``replayed`` and where it is asked for by its id.
    """
    params = {
        "month": month,
        "reason": reason,
        "topics": [one.topic for one in ids],
        "partitions": [one.partition for one in ids],
        "positions": [one.position for one in ids],
        "limit": limit,
        "replayed": int(replayed or bool(ids)),
    }
    return [
        Rejected(
            RejectedId(topic, partition, position),
            at_ms,
            why,
            detail,
            member_id,
            site_id,
            base64.b64decode(raw),
            bool(cut),
            replayed_s * 1000,
        )
        for topic, partition, position, at_ms, why, detail, member_id, site_id, raw, cut, replayed_s in warehouse.rows(
            named("rejected"), params
        )
    ]


def mark_replayed(warehouse: Warehouse, record: RejectedId, clicks: int) -> None:
    """Note that all of a record was sent in again, as so many clicks. Saying it twice changes nothing."""
    warehouse.insert(
        "rejected_replayed",
        {
            "topic": [record.topic],
            "partition": [record.partition],
            "position": [record.position],
            "clicks": [clicks],
        },
    )
