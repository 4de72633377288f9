"""Names in columns: to 128-bit hashes, to Kafka partitions, and to the wire.

Both hash functions are ClickHouse's too, murmurHash3_128() and kafkaMurmurHash(), so that state can
be read back as hashes. Compiled, they take less time than looking a name up in a dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.table import I64, U8, U64, compiled
from warehouse.wire import Packed

_M32: Final = np.uint64(0xFFFFFFFF)
_KAFKA: Final = np.uint64(0x5BD1E995)
_C1: Final = np.uint64(0x87C37B91114253D5)
_C2: Final = np.uint64(0x4CF5AD432745937F)
_LENGTH_BYTES_MAX: Final = 5


#: In place of an index into names: the empty name.
NAMELESS: Final = -1


@dataclass(frozen=True, slots=True)
class Names:
    """A column of names: their UTF-8 one after the other, and where each ends."""

    data: U8
    ends: I64

    @classmethod
    def of(cls, names: Sequence[str]) -> Names:
        """Those names."""
        joining = NamesJoined()
        joining.add(names)
        return joining.names()

    def __getitem__(self, index: int) -> str:
        return self.data[self.ends[index - 1] if index else 0 : self.ends[index]].tobytes().decode()

    def renamed(self, others: Mapping[int, str]) -> Names:
        """These names, with others at some indices. For few of them: each name is taken apart."""
        return Names.of([others.get(index) or self[index] for index in range(len(self.ends))])

    def hashes(self) -> tuple[U64, U64]:
        """The two 64-bit halves of each name's murmurHash3_128."""
        high, low = np.empty(len(self.ends), np.uint64), np.empty(len(self.ends), np.uint64)
        _murmur3(self.data, self.ends, high, low)
        return high, low

    def partitions(self, partitions: int) -> I64:
        """Kafka's default partition of each name as a key: its murmur2, without the sign, modulo the partitions."""
        hashes = np.empty(len(self.ends), np.int64)
        _murmur2(self.data, self.ends, hashes)
        return hashes % partitions

    def packed(self, which: I64) -> Packed:
        """The names at these indices as ClickHouse takes them; ``NAMELESS`` is the empty one."""
        return Packed("String", len(which), _packed(self.data, self.ends, which).tobytes())


class NamesJoined:
    """Names on their way into a column: those of a block at a time, while they are still near the core."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._lengths: list[int] = []

    def add(self, names: Sequence[str]) -> None:
        """Names that follow those before."""
        text = "".join(names)
        data = text.encode()
        self._data.append(data)
        self._lengths += map(len, names) if len(data) == len(text) else [len(name.encode()) for name in names]

    def names(self) -> Names:
        """The column."""
        ends = np.cumsum(np.array(self._lengths, np.int64))
        return Names(np.frombuffer(b"".join(self._data) or b"\0", np.uint8), ends)


def name_hash(name: str) -> tuple[int, int]:
    """The two 64-bit halves of one name's hash."""
    high, low = Names.of([name]).hashes()
    return int(high[0]), int(low[0])


@compiled
def _packed(data: U8, ends: I64, which: I64) -> U8:
    """Each of the names behind its length, which is in LEB128: 7 bits a byte, the lowest first."""
    size = 0
    for i in which:
        if i >= 0:
            size += ends[i] - (ends[i - 1] if i > 0 else 0)
        size += _LENGTH_BYTES_MAX
    out = np.empty(size, np.uint8)
    to = 0
    for i in which:
        start = ends[i - 1] if i > 0 else 0
        end = ends[i] if i >= 0 else start
        length = end - start
        while length > 0x7F:
            out[to] = (length & 0x7F) | 0x80
            to += 1
            length >>= 7
        out[to] = length
        to += 1
        for at in range(start, end):
            out[to] = data[at]
            to += 1
    return out[:to]


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
