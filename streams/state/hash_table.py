"""Open addressing over 128-bit keys, in one flat numpy array, with loops compiled by numba.

A slot is three words side by side, a key's two and its value, so that one look costs one reach into memory.
A table grows by copying before it is more than ``FULL`` full, to ``ROOMY``, so a stored key costs 24/FULL
to 24/ROOMY bytes. Key (0, 0) marks an empty slot;
a key that is really zero is stored as (0, 1), which collides with a chance of 2**-128.

The loops release the GIL, so they run beside the event loop and beside an insert. A large table
is slower to reach than to work on, so every loop over keys asks for the slots of the key ``PREFETCH_DISTANCE``
places on (``fetch``) before it needs them.
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
#: Keys whose slots are on their way at a time: more than memory's delay, fewer than a core can wait for.
PREFETCH_DISTANCE: Final = 12
_CAPACITY_MIN: Final = 256
_WORTH_FITTING: Final = 0.9
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio

#: What LLVM's prefetch is told: the line will be written to, is to stay in all caches, and holds data.
_TO_WRITE: Final = 1
_ALL_CACHES: Final = 3
_DATA: Final = 1

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a loop to machine code, once per machine; it runs without the GIL."""
    return cast("F", njit(nogil=True, cache=True)(function))


def _typed(_context: object, array: object, index: object) -> tuple[object, Callable[..., object]]:
    return cast("Any", types).void(array, index), _emitted


def _emitted(context: Any, builder: Any, signature: Any, arguments: Any) -> object:  # noqa: ANN401 - numba's own, untyped
    view = context.make_array(signature.args[0])(context, builder, arguments[0])
    address = builder.gep(view.data, [arguments[1]])
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
    function = cast("Any", cgutils).get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [address, number(_TO_WRITE), number(_ALL_CACHES), number(_DATA)])
    return context.get_dummy_value()


#: ``prefetch(array, index)`` in a compiled loop: LLVM's instruction, for which Python has no word. It has no effect but
#: on time, and past the array's end it does nothing.
#: Without it recovery takes 1.7 times as long, counting 1.1 times (docs/decisions/0021).
prefetch = cast("Callable[[npt.NDArray[np.uint64], np.int64], None]", intrinsic(_typed))


@compiled
def _home(slots: U64, high: np.uint64, low: np.uint64) -> np.int64:
    """Where the search for a key begins: the first word of its slot."""
    # Stirred, for keys need not be random in every bit; then multiply-shift onto any
    # capacity: no power of two, so growth can be gentle.
    stirred = (high ^ (low * _ODD)) * _ODD
    capacity = np.uint64(len(slots) // SLOT_WORDS)
    return np.int64(((stirred >> np.uint64(32)) * capacity) >> np.uint64(32)) * SLOT_WORDS


@compiled
def fetch(slots: U64, high: np.uint64, low: np.uint64) -> None:
    """Have the key's slot on its way to the core by the time ``claim`` looks at it."""
    at = _home(slots, high, low)
    prefetch(slots, at)
    prefetch(slots, at + SLOT_WORDS - 1)  # one slot in four lies on two lines


@compiled
def find(slots: U64, high: np.uint64, low: np.uint64) -> np.int64:
    """First word of the key's slot, or of the empty slot where it belongs."""
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
    """Where the key's value is, its slot taken for it if it was empty, and 1 if it was."""
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
    """The value of each key, 0 where there is none."""
    for i in range(len(high)):
        if i + PREFETCH_DISTANCE < len(high):
            fetch(slots, high[i + PREFETCH_DISTANCE], low[i + PREFETCH_DISTANCE])
        at = find(slots, high[i], low[i])
        values[i] = slots[at + 2] if slots[at] != 0 or slots[at + 1] != 0 else np.uint64(0)


@compiled
def keep_first(slots: U64, high: U64, low: U64, values: U64, new: U8) -> int:
    """Give each key its value unless it has one, which then takes the place of that given; how many were new."""
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
    """Map of 128-bit keys to 64-bit values that only grows. Not safe between threads."""

    def __init__(self, memory: Memory = UNBOUNDED) -> None:
        self._memory = memory
        self.slots: U64 = memory.zeros(SLOT_WORDS * _CAPACITY_MIN)
        self.size = 0

    @property
    def capacity(self) -> int:
        """How many slots there are."""
        return len(self.slots) // SLOT_WORDS

    @property
    def bytes(self) -> int:
        """What the slots take."""
        return self.slots.nbytes

    def reserve(self, more: int, foretold: int = 0) -> None:
        """Make room for that many new keys: no loop over the table grows it.

        If it has to grow, then at once for as many as are ``foretold`` in all.
        """
        if self.size + more <= FULL * self.capacity:
            return
        self._resize(int(max(self.size + more, foretold) / ROOMY) + 1)

    def fit(self) -> None:
        """Give back what is spare, if that is worth the copying."""
        capacity = max(_CAPACITY_MIN, int(self.size / ROOMY) + 1)
        if capacity < _WORTH_FITTING * self.capacity:
            self._resize(capacity)

    def _resize(self, capacity: int) -> None:
        slots = self._memory.zeros(SLOT_WORDS * capacity)
        _move(self.slots, slots)
        self.slots = slots

    def values(self, high: U64, low: U64) -> U64:
        """Values of these keys, 0 where there is none."""
        values = np.zeros(len(high), np.uint64)
        if self.size:
            lookup(self.slots, high, low, values)
        return values

    def keep_first(self, high: U64, low: U64, values: U64) -> U8:
        """Add keys with their values; those that are there already keep theirs, which is put into ``values``.

        Returns 1 for each that was new.
        """
        new = np.zeros(len(high), np.uint8)
        self.reserve(len(high))
        self.size += keep_first(self.slots, high, low, values, new)
        return new

    def get(self, high: int, low: int) -> int:
        """Value of one key, 0 when it is not there. For look-ups one at a time."""
        return int(self.slots[find(self.slots, np.uint64(high), np.uint64(low)) + 2])
