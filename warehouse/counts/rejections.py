"""Rejections stored in the warehouse. The functions block: call them from a worker thread."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from warehouse.storage.client import Warehouse, named


@dataclass(frozen=True)
class RejectedId:
    """Where a rejected record stands in the log; on the command line, its name."""

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
    """One rejected record with its bytes. ``member_id`` is empty when the sender was not authenticated.

    ``cut``: ``raw`` is only the beginning. ``replayed_at_ms`` is 0 until the whole record was sent in again.
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
    """Rejected records, newest first, filtered by ``month`` (such as 202611), ``reason`` and ``ids``.

    Replayed records are left out unless ``replayed`` is set or they are named in ``ids``.
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
    """Note that the whole record was sent in again, as ``clicks`` clicks. Idempotent."""
    warehouse.insert(
        "rejected_replayed",
        {
            "topic": [record.topic],
            "partition": [record.partition],
            "position": [record.position],
            "clicks": [clicks],
        },
    )
