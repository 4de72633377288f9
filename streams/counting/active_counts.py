"""Counts of active flattrs per creator, thing or (member, creator). Pure, compiled."""

from __future__ import annotations

import numpy as np

from streams.state.hash_table import I8, I64, PREFETCH_DISTANCE, U64, HashTable, claim, compiled, fetch


def count(table: HashTable, high: U64, low: U64, deltas: I8) -> tuple[I64, U64]:
    """Add each click's delta (shape (n,)) to the count of its key.

    Returns, for each key that was touched, the index of the last click that did, and the count after all of them:
    together one row of a table of absolute counts.
    """
    touching = np.flatnonzero(deltas)
    if not len(touching):
        return touching, np.empty(0, np.uint64)
    table.reserve(len(touching))
    scratch = np.full(1 << (2 * len(touching) - 1).bit_length(), -1, np.int64)
    places = np.empty(len(touching), np.int64)
    added = _count(table.slots, high, low, deltas, touching, places, scratch)
    table.size += added
    last = scratch[scratch >= 0]
    return touching[last], table.slots[places[last]]


@compiled
def _count(slots: U64, high: U64, low: U64, deltas: I8, touching: I64, places: I64, scratch: I64) -> int:
    # scratch: an open-addressing map from a count's slot to the last click on it (an index into `touching`).
    added = 0
    mask = len(scratch) - 1
    for j in range(len(touching)):
        if j + PREFETCH_DISTANCE < len(touching):
            fetch(slots, high[touching[j + PREFETCH_DISTANCE]], low[touching[j + PREFETCH_DISTANCE]])
        i = touching[j]
        at, new = claim(slots, high[i], low[i])
        added += new
        # Unsigned wrap-around subtracts; a count cannot become negative.
        slots[at] += np.uint64(np.int64(deltas[i]))
        places[j] = at
        note = (at * 0x9E3779B1) & mask
        while scratch[note] >= 0 and places[scratch[note]] != at:
            note = (note + 1) & mask
        scratch[note] = j
    return added
