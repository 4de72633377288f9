"""A hash table with open addressing over 128-bit keys, in one flat numpy array, with loops compiled by numba.

A slot is three adjacent words, two for the key and one for the value, so that a lookup costs one memory access. Before
it exceeds the load factor ``FULL``, a table is copied to one with load factor ``ROOMY``, so a key costs 24/FULL to
24/ROOMY bytes. Key (0, 0) marks an empty slot; a real key of zero is stored as (0, 1), which collides with a
probability of 2**-128.

The loops release the GIL, so they run in parallel to the event loop and to inserts. In a large table memory latency
dominates, so every loop prefetches the slot of the key ``PREFETCH_DISTANCE`` places ahead (``fetch``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from streams.state.memory import UNBOUNDED, Memory

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]

FULL: Final = 0.8
ROOMY: Final = 0.65
#: A slot: the key's high and low word, and the value.
SLOT_WORDS: Final = 3
BYTES_PER_SLOT: Final = 8 * SLOT_WORDS
#: Prefetches in flight: enough to cover memory latency, fewer than a core can track.
PREFETCH_DISTANCE: Final = 12
_CAPACITY_MIN: Final = 256
_WORTH_FITTING: Final = 0.9
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio

#: Arguments of LLVM's prefetch: for writing, into all cache levels, of data.
_TO_WRITE: Final = 1
_ALL_CACHES: Final = 3
_DATA: Final = 1

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a loop to machine code, once per machine; it runs without the GIL."""
    return cast("F", njit(nogil=True, cache=True)(function))


def _typed(_context: object, array: object, index: object) -> tuple[object, Callable[..., object]]:
    return cast("Any", types).void(array, index), _emitted


def _emitted(context: Any, builder: Any, signature: Any, arguments: Any) -> object:  # noqa: ANN401 - numba's types are untyped
    view = context.make_array(signature.args[0])(context, builder, arguments[0])
    address = builder.gep(view.data, [arguments[1]])
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
    function = cast("Any", cgutils).get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [address, number(_TO_WRITE), number(_ALL_CACHES), number(_DATA)])
    return context.get_dummy_value()


#: ``prefetch(array, index)``, for compiled loops: LLVM's instruction, which numba does not offer. It affects only
#: speed, and an index past the end is harmless. Without it recovery takes 1.7 times as long, counting 1.1 times
#: (docs/decisions/0021).
prefetch = cast("Callable[[npt.NDArray[np.uint64], np.int64], None]", intrinsic(_typed))


@compiled
def _home(slots: U64, high: np.uint64, low: np.uint64) -> np.int64:
    """Where the search for a key begins: the index of its home slot's first word."""
    # Mixed, as keys need not be random in every bit, then mapped by multiply-shift onto a capacity that need not be a
    # power of two, so that tables can grow in small steps.
    stirred = (high ^ (low * _ODD)) * _ODD
    capacity = np.uint64(len(slots) // SLOT_WORDS)
    return np.int64(((stirred >> np.uint64(32)) * capacity) >> np.uint64(32)) * SLOT_WORDS


@compiled
def fetch(slots: U64, high: np.uint64, low: np.uint64) -> None:
    """Prefetch the key's slot for a later ``claim`` or ``find``."""
    at = _home(slots, high, low)
    prefetch(slots, at)
    prefetch(slots, at + SLOT_WORDS - 1)  # one slot in four lies on two lines


@compiled
def find(slots: U64, high: np.uint64, low: np.uint64) -> np.int64:
    """Index of the first word of the key's slot, or of the empty slot where it belongs."""
    at = _home(slots, high, low)
    while True:
        at_high = slots[at]
        at_low = slots[at + 1]
        if (at_high == high and at_low == low) or (at_high == 0 and at_low == 0):
            return at
        at += np.int64(SLOT_WORDS)
        if at == len(slots):
            at = np.int64(0)


@compiled
def claim(slots: U64, high: np.uint64, low: np.uint64) -> tuple[np.int64, int]:
    """Find or insert the key; returns the index of its value, and 1 if it was inserted."""
    if high == 0 and low == 0:
        low = np.uint64(1)
    at = find(slots, high, low)
    value = at + np.int64(2)
    if slots[at] != 0 or slots[at + 1] != 0:
        return value, 0
    slots[at] = high
    slots[at + 1] = low
    return value, 1


@compiled
def _move(slots: U64, to: U64) -> None:
    distance = PREFETCH_DISTANCE * SLOT_WORDS
    for at in range(0, len(slots), SLOT_WORDS):
        if at + distance < len(slots):
            fetch(to, slots[at + distance], slots[at + distance + 1])
        high = slots[at]
        low = slots[at + 1]
        if high == 0 and low == 0:
            continue
        new = find(to, high, low)
        to[new] = high
        to[new + 1] = low
        to[new + 2] = slots[at + 2]


@compiled
def lookup(slots: U64, high: U64, low: U64, values: U64) -> None:
    """Write the value of each key into ``values``, 0 for missing keys. All arrays have shape (n,)."""
    for i in range(len(high)):
        if i + PREFETCH_DISTANCE < len(high):
            fetch(slots, high[i + PREFETCH_DISTANCE], low[i + PREFETCH_DISTANCE])
        at = find(slots, high[i], low[i])
        values[i] = slots[at + 2] if slots[at] != 0 or slots[at + 1] != 0 else np.uint64(0)


@compiled
def keep_first(slots: U64, high: U64, low: U64, values: U64, new: U8) -> int:
    """Insert missing keys; for existing ones write the stored value into ``values``. Returns how many were new."""
    added = 0
    for i in range(len(high)):
        if i + PREFETCH_DISTANCE < len(high):
            fetch(slots, high[i + PREFETCH_DISTANCE], low[i + PREFETCH_DISTANCE])
        at, new[i] = claim(slots, high[i], low[i])
        if new[i]:
            slots[at] = values[i]
            added += 1
        else:
            values[i] = slots[at]
    return added


class HashTable:
    """A map from 128-bit keys to 64-bit values that only grows. Not thread-safe."""

    def __init__(self, memory: Memory = UNBOUNDED) -> None:
        self._memory = memory
        self.slots: U64 = memory.zeros(SLOT_WORDS * _CAPACITY_MIN)
        self.size = 0

    @property
    def capacity(self) -> int:
        """The number of slots."""
        return len(self.slots) // SLOT_WORDS

    @property
    def bytes(self) -> int:
        """The size of the slots."""
        return self.slots.nbytes

    def reserve(self, more: int, foretold: int = 0) -> None:
        """Make room for ``more`` new keys. Call this before a loop, since loops do not grow the table.

        If it has to grow, it grows to hold at least ``foretold`` keys in all.
        """
        if self.size + more <= FULL * self.capacity:
            return
        self._resize(int(max(self.size + more, foretold) / ROOMY) + 1)

    def fit(self) -> None:
        """Shrink the table if that frees enough to be worth the copying."""
        capacity = max(_CAPACITY_MIN, int(self.size / ROOMY) + 1)
        if capacity < _WORTH_FITTING * self.capacity:
            self._resize(capacity)

    def _resize(self, capacity: int) -> None:
        slots = self._memory.zeros(SLOT_WORDS * capacity)
        _move(self.slots, slots)
        self.slots = slots

    def values(self, high: U64, low: U64) -> U64:
        """The values of these keys (shape (n,)), 0 for missing ones."""
        values = np.zeros(len(high), np.uint64)
        if self.size:
            lookup(self.slots, high, low, values)
        return values

    def keep_first(self, high: U64, low: U64, values: U64) -> U8:
        """Insert missing keys with their values; for existing keys write the stored value into ``values``.

        Returns an array with 1 for each key that was new.
        """
        new = np.zeros(len(high), np.uint8)
        self.reserve(len(high))
        self.size += keep_first(self.slots, high, low, values, new)
        return new

    def get(self, high: int, low: int) -> int:
        """The value of one key, 0 if it is missing."""
        return int(self.slots[find(self.slots, np.uint64(high), np.uint64(low)) + 2])
