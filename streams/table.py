"""Open addressing over 128-bit keys, in flat numpy arrays, with loops compiled by numba.

A table holds 16 bytes of key and 8 of value per slot and grows by copying before it is
more than ``FULL`` full, to ``ROOMY``, so a stored key costs 24/FULL to 24/ROOMY bytes.
Key (0, 0) marks an empty slot;
a key that is really zero is stored as (0, 1), which collides with a chance of 2**-128.

The loops release the GIL, so they run beside the event loop and beside an insert. A large table
is slower to reach than to work on, so every loop over keys asks for the slots of the key ``AHEAD``
places on (``fetch``) before it needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from streams.memory import UNBOUNDED, Memory
from streams.prefetch import prefetch

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]

FULL: Final = 0.8
ROOMY: Final = 0.65
BYTES_PER_SLOT: Final = 24
#: Keys whose slots are on their way at a time: more than memory's delay, fewer than a core can wait for.
AHEAD: Final = 12
_CAPACITY_MIN: Final = 256
_WORTH_FITTING: Final = 0.9
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a loop to machine code, once per machine; it runs without the GIL."""
    return cast("F", njit(nogil=True, cache=True)(function))


@compiled
def _home(capacity: int, high: np.uint64, low: np.uint64) -> np.int64:
    """Slot where the search for a key begins."""
    # Stirred, for keys need not be random in every bit; then multiply-shift onto any
    # capacity: no power of two, so growth can be gentle.
    stirred = (high ^ (low * _ODD)) * _ODD
    return np.int64(((stirred >> np.uint64(32)) * np.uint64(capacity)) >> np.uint64(32))


@compiled
def fetch(keys: U64, values: U64, high: np.uint64, low: np.uint64) -> None:
    """Have the key's slot on its way to the core by the time ``claim`` looks at it."""
    slot = _home(len(values), high, low)
    prefetch(keys, 2 * slot)
    prefetch(values, slot)


@compiled
def find(keys: U64, capacity: int, high: np.uint64, low: np.uint64) -> np.int64:
    """Slot of the key, or of the empty slot where it belongs."""
    slot = _home(capacity, high, low)
    while True:
        at_high = keys[2 * slot]
        at_low = keys[2 * slot + 1]
        if (at_high == high and at_low == low) or (at_high == 0 and at_low == 0):
            return slot
        slot += np.int64(1)
        if slot == capacity:
            slot = np.int64(0)


@compiled
def claim(keys: U64, capacity: int, high: np.uint64, low: np.uint64) -> tuple[np.int64, int]:
    """Slot of the key, taken for it if it was empty, and 1 if it was."""
    if high == 0 and low == 0:
        low = np.uint64(1)
    slot = find(keys, capacity, high, low)
    if keys[2 * slot] != 0 or keys[2 * slot + 1] != 0:
        return slot, 0
    keys[2 * slot] = high
    keys[2 * slot + 1] = low
    return slot, 1


@compiled
def _move(keys: U64, values: U64, to_keys: U64, to_values: U64) -> None:
    capacity = len(to_values)
    for at in range(len(values)):
        if at + AHEAD < len(values):
            fetch(to_keys, to_values, keys[2 * (at + AHEAD)], keys[2 * (at + AHEAD) + 1])
        high = keys[2 * at]
        low = keys[2 * at + 1]
        if high == 0 and low == 0:
            continue
        slot = find(to_keys, capacity, high, low)
        to_keys[2 * slot] = high
        to_keys[2 * slot + 1] = low
        to_values[slot] = values[at]


class Table:
    """Map of 128-bit keys to 64-bit values that only grows. Not safe between threads."""

    def __init__(self, memory: Memory = UNBOUNDED) -> None:
        self._memory = memory
        self.keys: U64 = memory.zeros(2 * _CAPACITY_MIN)
        self.values: U64 = memory.zeros(_CAPACITY_MIN)
        self.size = 0
        #: While a table is filled in one go, room for twice as many saves copying; ``fit`` gives it back.
        self.spare = 1.0

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        return self.keys.nbytes + self.values.nbytes

    def reserve(self, more: int) -> None:
        """Make room for that many new keys: no loop over the table grows it."""
        if self.size + more <= FULL * len(self.values):
            return
        self._resize(int((self.size + more) * self.spare / ROOMY) + 1)

    def fit(self) -> None:
        """Give back what is spare, if that is worth the copying."""
        self.spare = 1.0
        capacity = max(_CAPACITY_MIN, int(self.size / ROOMY) + 1)
        if capacity < _WORTH_FITTING * len(self.values):
            self._resize(capacity)

    def _resize(self, capacity: int) -> None:
        keys, values = self._memory.zeros(2 * capacity), self._memory.zeros(capacity)
        _move(self.keys, self.values, keys, values)
        self.keys, self.values = keys, values

    def get(self, high: int, low: int) -> int:
        """Value of one key, 0 when it is not there. For look-ups one at a time."""
        slot = find(self.keys, len(self.values), np.uint64(high), np.uint64(low))
        return int(self.values[slot])
