"""Columns of names: to 128-bit hashes, to Kafka partitions, and to ClickHouse's wire format.

A name's hash is its identity in the state, so nobody must be able to construct a collision: it is SipHash-2-4 with
128 bits of output (SipHash-128; Aumasson and Bernstein, 2012) under the installation's key. Partitions are chosen as
Kafka's default partitioner does, by MurmurHash2 (Appleby). ClickHouse has both, sipHash128ReferenceKeyed() and
kafkaMurmurHash(), so that state can be read back as hashes. Compiled, they are faster than a dictionary lookup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.state.hash_table import I64, U8, U64, compiled
from warehouse.storage.identity_key import IdentityKey
from warehouse.storage.native_columns import Packed

_M32: Final = np.uint64(0xFFFFFFFF)
_KAFKA: Final = np.uint64(0x5BD1E995)
_LENGTH_BYTES_MAX: Final = 5


#: In place of an index into names: the empty name.
NAMELESS: Final = -1


@dataclass(frozen=True, slots=True)
class StringColumn:
    """A column of n names: their concatenated UTF-8 bytes, and the end of each (shape (n,))."""

    data: U8
    ends: I64

    @classmethod
    def of(cls, names: Sequence[str]) -> StringColumn:
        """Build a column."""
        joining = NamesJoined()
        joining.add(names)
        return joining.names()

    def __getitem__(self, index: int) -> str:
        return self.data[self.ends[index - 1] if index else 0 : self.ends[index]].tobytes().decode()

    def visible(self) -> bool:
        """Whether all names consist of visible ASCII characters."""
        data = self.data[: self.ends[-1] if len(self.ends) else 0]
        return not len(data) or bool(data.min() > ord(" ") and data.max() <= ord("~"))

    def renamed(self, others: Mapping[int, str]) -> StringColumn:
        """A copy with other names at some indices. Slow, as every name is decoded; meant for rare cases."""
        return StringColumn.of([others.get(index) or self[index] for index in range(len(self.ends))])

    def hashes(self, key: IdentityKey) -> tuple[U64, U64]:
        """Each name's SipHash-128 as two UInt64 columns, the first eight bytes first."""
        high, low = np.empty(len(self.ends), np.uint64), np.empty(len(self.ends), np.uint64)
        _siphash(self.data, self.ends, np.uint64(key.k0), np.uint64(key.k1), high, low)
        return high, low

    def partitions(self, partitions: int) -> I64:
        """Each name's partition under Kafka's default partitioner: MurmurHash2 & 0x7fffffff, modulo partitions."""
        hashes = np.empty(len(self.ends), np.int64)
        _murmur2(self.data, self.ends, hashes)
        return hashes % partitions

    def packed(self, which: I64) -> Packed:
        """The names at these indices in ClickHouse's native format; ``NAMELESS`` gives an empty one."""
        return Packed("String", len(which), _packed(self.data, self.ends, which).tobytes())


class NamesJoined:
    """Collects names for a column, block by block, while they are still in the CPU cache."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._lengths: list[int] = []

    def add(self, names: Sequence[str]) -> None:
        """Append names."""
        text = "".join(names)
        data = text.encode()
        self._data.append(data)
        self._lengths += map(len, names) if len(data) == len(text) else [len(name.encode()) for name in names]

    def names(self) -> StringColumn:
        """The column."""
        ends = np.cumsum(np.array(self._lengths, np.int64))
        return StringColumn(np.frombuffer(b"".join(self._data) or b"\0", np.uint8), ends)


def name_hash(name: str, key: IdentityKey) -> tuple[int, int]:
    """One name's SipHash-128 as two integers, the first eight bytes first."""
    high, low = StringColumn.of([name]).hashes(key)
    return int(high[0]), int(low[0])


@compiled
def _packed(data: U8, ends: I64, which: I64) -> U8:
    """Each name after its length in unsigned LEB128 (7 bits per byte, lowest first)."""
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


Words = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


@compiled
def _round(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> Words:
    v0 += v1
    v2 += v3
    v1 = _rotated(v1, 13) ^ v0
    v3 = _rotated(v3, 16) ^ v2
    v0 = _rotated(v0, 32)
    v2 += v1
    v0 += v3
    v1 = _rotated(v1, 17) ^ v2
    v3 = _rotated(v3, 21) ^ v0
    return v0, v1, _rotated(v2, 32), v3


@compiled
def _absorbed(word: np.uint64, v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> Words:
    v0, v1, v2, v3 = _round(v0, v1, v2, v3 ^ word)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ word, v1, v2, v3


@compiled
def _finished(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> Words:
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return _round(v0, v1, v2, v3)


@compiled
def _siphash(data: U8, ends: I64, k0: np.uint64, k1: np.uint64, high: U64, low: U64) -> None:  # noqa: PLR0913, PLR0917 - a column, a key, two columns
    """SipHash-2-4 of each name with 128 bits of output, as little-endian words."""
    start = np.int64(0)
    for i in range(len(ends)):
        length = ends[i] - start
        v0 = k0 ^ np.uint64(0x736F6D6570736575)
        v1 = k1 ^ np.uint64(0x646F72616E646F6D ^ 0xEE)
        v2 = k0 ^ np.uint64(0x6C7967656E657261)
        v3 = k1 ^ np.uint64(0x7465646279746573)
        body = int(start + length // 8 * 8)
        for at in range(int(start), body, 8):
            v0, v1, v2, v3 = _absorbed(_word(data, at, 8), v0, v1, v2, v3)
        last = _word(data, body, int(ends[i] - body)) | (np.uint64(length) << np.uint64(56))
        v0, v1, v2, v3 = _absorbed(last, v0, v1, v2, v3)
        v0, v1, v2, v3 = _finished(v0, v1, v2 ^ np.uint64(0xEE), v3)
        high[i] = v0 ^ v1 ^ v2 ^ v3
        v0, v1, v2, v3 = _finished(v0, v1 ^ np.uint64(0xDD), v2, v3)
        low[i] = v0 ^ v1 ^ v2 ^ v3
        start = ends[i]


@compiled
def _murmur2(data: U8, ends: I64, hashes: I64) -> None:
    """MurmurHash2 of each name as in Kafka's partitioner, without the sign bit."""
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
