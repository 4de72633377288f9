"""Which partition a member's clicks go to."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

_HASHES_REMEMBERED: Final = 200_000


@lru_cache(_HASHES_REMEMBERED)
def member_hash(member_id: str) -> int:
    """The hash that, modulo their number, chooses the partition: MurmurHash2, as in Kafka's default partitioner."""
    return int(murmur2(member_id.encode())) & 0x7FFFFFFF
