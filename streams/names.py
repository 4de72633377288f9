"""Names to 128-bit hashes and Kafka partitions, in columns.

Both functions are ClickHouse's too, murmurHash3_128() and kafkaMurmurHash(), so that state can
be read back as hashes. Compiled, they take less time than looking a name up in a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from streams.table import I64, U8, U64, compiled

_M32: Final = np.uint64(0xFFFFFFFF)
_KAFKA: Final = np.uint64(0x5BD1E995)
_C1: Final = np.uint64(0x87C37B91114253D5)
_C2: Final = np.uint64(0x4CF5AD432745937F)


def name_hash(name: str) -> tuple[int, int]:
    """The two 64-bit halves of one name's hash."""
    high, low = name_hashes([name])
    return int(high[0]), int(low[0])


def name_hashes(names: Sequence[str]) -> tuple[U64, U64]:
    """The two halves of each name's murmurHash3_128."""
    data, ends = _joined(names)
    high, low = np.empty(len(names), np.uint64), np.empty(len(names), np.uint64)
    _murmur3(data, ends, high, low)
    return high, low


def partition_of(name: str, partitions: int) -> int:
    """Kafka's default partition of one key."""
    return int(partitions_of([name], partitions)[0])


def partitions_of(names: Sequence[str], partitions: int) -> I64:
    """Kafka's default partition of each key: its murmur2, without the sign, modulo the partitions."""
    data, ends = _joined(names)
    hashes = np.empty(len(names), np.int64)
    _murmur2(data, ends, hashes)
    return hashes % partitions


def _joined(names: Sequence[str]) -> tuple[U8, I64]:
    """All names as UTF-8 in one array, and where each ends."""
    data = "".join(names).encode()
    lengths = list(map(len, names))
    ends = np.cumsum(np.array(lengths, np.int64))
    if len(names) and ends[-1] != len(data):  # some are not ASCII
        ends = np.cumsum(np.array([len(name.encode()) for name in names], np.int64))
    return np.frombuffer(data or b"\0", np.uint8), ends


@compiled
def _word(data: U8, at: int, count: int) -> np.uint64:
    """Up to 8 bytes, little-endian."""
    word = np.uint64(0)
    for byte in range(count):
        word |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
    return word


@compiled
def _rotated(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@compiled
def _stirred(word: np.uint64) -> np.uint64:
    word ^= word >> np.uint64(33)
    word *= np.uint64(0xFF51AFD7ED558CCD)
    word ^= word >> np.uint64(33)
    word *= np.uint64(0xC4CEB9FE1A85EC53)
    return word ^ (word >> np.uint64(33))


@compiled
def _murmur3(data: U8, ends: I64, high: U64, low: U64) -> None:
    """MurmurHash3 x64 128, seed 0, of each name."""
    start = np.int64(0)
    for i in range(len(ends)):
        length = ends[i] - start
        h1 = np.uint64(0)
        h2 = np.uint64(0)
        body = int(start + length // 16 * 16)
        for at in range(int(start), body, 16):
            h1 ^= _rotated(_word(data, at, 8) * _C1, 31) * _C2
            h1 = (_rotated(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729)
            h2 ^= _rotated(_word(data, at + 8, 8) * _C2, 33) * _C1
            h2 = (_rotated(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
        left = int(ends[i] - body)
        if left > 8:
            h2 ^= _rotated(_word(data, body + 8, left - 8) * _C2, 33) * _C1
        if left > 0:
            h1 ^= _rotated(_word(data, body, min(left, 8)) * _C1, 31) * _C2
        h1 ^= np.uint64(length)
        h2 ^= np.uint64(length)
        h1 += h2
        h2 += h1
        h1 = _stirred(h1)
        h2 = _stirred(h2)
        h1 += h2
        h2 += h1
        high[i] = h1
        low[i] = h2
        start = ends[i]


@compiled
def _murmur2(data: U8, ends: I64, hashes: I64) -> None:
    """Kafka's murmur2 of each name, as a positive number."""
    start = np.int64(0)
    for i in range(len(ends)):
        length = ends[i] - start
        h = (np.uint64(0x9747B28C) ^ np.uint64(length)) & _M32
        body = int(start + length // 4 * 4)
        for at in range(int(start), body, 4):
            k = _word(data, at, 4) * _KAFKA & _M32
            k ^= k >> np.uint64(24)
            h = (h * _KAFKA & _M32) ^ (k * _KAFKA & _M32)
        if ends[i] > body:
            h = (h ^ _word(data, body, int(ends[i] - body))) * _KAFKA & _M32
        h ^= h >> np.uint64(13)
        h = h * _KAFKA & _M32
        h ^= h >> np.uint64(15)
        hashes[i] = np.int64(h & np.uint64(0x7FFFFFFF))
        start = ends[i]
