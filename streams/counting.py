"""How many active flattrs a creator, a thing or a (member, creator) has: pure, compiled."""

from __future__ import annotations

import numpy as np

from streams.table import AHEAD, I8, I64, U64, Table, claim, compiled, fetch


def count(table: Table, high: U64, low: U64, deltas: I8) -> tuple[I64, U64]:
    """Add each delta to its key's count.

    Returns, per key whose count was touched, the index of the last click that did, and the
    count after all of them: together one row of a table of absolute counts.
    """
    touching = np.flatnonzero(deltas)
    if not len(touching):
        return touching, np.empty(0, np.uint64)
    table.reserve(len(touching))
    scratch = np.full(1 << (2 * len(touching) - 1).bit_length(), -1, np.int64)
    slots = np.empty(len(touching), np.int64)
    added = _count(table.keys, table.values, high, low, deltas, touching, slots, scratch)
    table.size += added
    last = scratch[scratch >= 0]
    return touching[last], table.values[slots[last]]


@compiled
def _count(keys: U64, counts: U64, high: U64, low: U64, deltas: I8, touching: I64, slots: I64, scratch: I64) -> int:
    # scratch: open addressing from slot to the last click (its index in `touching`) on it.
    added = 0
    capacity = len(counts)
    mask = len(scratch) - 1
    for j in range(len(touching)):
        if j + AHEAD < len(touching):
            fetch(keys, counts, high[touching[j + AHEAD]], low[touching[j + AHEAD]])
        i = touching[j]
        slot, new = claim(keys, capacity, high[i], low[i])
        added += new
        # Unsigned wrap-around subtracts; a count is never taken below the active flattrs it counts.
        counts[slot] += np.uint64(np.int64(deltas[i]))
        slots[j] = slot
        at = (slot * 0x9E3779B1) & mask
        while scratch[at] >= 0 and slots[scratch[at]] != slot:
            at = (at + 1) & mask
        scratch[at] = j
    return added


def add(table: Table, high: U64, low: U64, deltas: I8) -> None:
    """Add each delta to its key's count, when nobody asks which counts were touched."""
    table.reserve(int(np.count_nonzero(deltas)))
    table.size += _add(table.keys, table.values, high, low, deltas)


@compiled
def _add(keys: U64, counts: U64, high: U64, low: U64, deltas: I8) -> int:
    added = 0
    capacity = len(counts)
    for i in range(len(high)):
        if i + AHEAD < len(high):
            fetch(keys, counts, high[i + AHEAD], low[i + AHEAD])
        if deltas[i] != 0:
            slot, new = claim(keys, capacity, high[i], low[i])
            added += new
            counts[slot] += np.uint64(np.int64(deltas[i]))
    return added
