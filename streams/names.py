"""Names to 128-bit hashes, in columns. Each name is hashed once while the cache remembers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xxhash
from aiokafka.partitioner import murmur2

from streams.table import I64, U64

#: Names remembered: some 200 bytes each. Beyond it all are forgotten and hashed anew.
_REMEMBERED_MAX: Final = 500_000


def name_hash(name: str) -> tuple[int, int]:
    """High and low half. Both are functions that ClickHouse has too: xxh3() and xxHash64()."""
    data = name.encode()
    return xxhash.xxh3_64_intdigest(data), xxhash.xxh64_intdigest(data)


def partition_of(member_id: str, partitions: int) -> int:
    """Kafka's default partition of a key."""
    return int((murmur2(member_id.encode()) & 0x7FFFFFFF) % partitions)


class Names(dict[str, int]):
    """Gives each name a small code, and each code its hash and its partition."""

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._partitions = partitions
        self._high: U64 = np.zeros(1024, np.uint64)
        self._low: U64 = np.zeros(1024, np.uint64)
        self._partition: I64 = np.zeros(1024, np.int64)

    def __missing__(self, name: str) -> int:
        code = len(self)
        if code == len(self._high):
            self._high = np.concatenate([self._high, np.zeros_like(self._high)])
            self._low = np.concatenate([self._low, np.zeros_like(self._low)])
            self._partition = np.concatenate([self._partition, np.zeros_like(self._partition)])
        self._high[code], self._low[code] = name_hash(name)
        self._partition[code] = partition_of(name, self._partitions) if self._partitions else 0
        self[name] = code
        return code

    def hashes(self, names: Sequence[str]) -> tuple[U64, U64, I64]:
        """High halves, low halves and partitions, one per name."""
        if len(self) > _REMEMBERED_MAX:
            self.clear()
        codes = np.fromiter(map(self.__getitem__, names), np.int64, len(names))
        return self._high[codes], self._low[codes], self._partition[codes]
