"""What a click does to its flattr: the only place where that is decided. Pure, compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.state.hash_table import I8, PREFETCH_DISTANCE, U8, U64, HashTable, claim, compiled, fetch
from streams.state.word import SEEN, UNDO, VERSION, active

COUNTED: Final = 0
DUPLICATE: Final = 1
UNDONE: Final = 2

#: Which row of `flattrs` a click writes.
NO_ROW: Final = 0
CLICK_ROW: Final = 1  # the counted click itself
VERSION_ROW: Final = 2  # moves the version, names no click


@dataclass(frozen=True)
class Verdicts:
    """What became of each click, as arrays of shape (n,): label, row to write, change of the active count."""

    labels: U8
    rows: U8
    deltas: I8


def judge(flattrs: HashTable, high: U64, low: U64, versions: U64) -> Verdicts:
    """Apply clicks (keys and versions, shape (n,)) to the table, in order."""
    verdicts = Verdicts(np.empty(len(high), np.uint8), np.empty(len(high), np.uint8), np.empty(len(high), np.int8))
    flattrs.reserve(len(high))
    flattrs.size += _judge(flattrs.slots, high, low, versions, verdicts.labels, verdicts.rows, verdicts.deltas)
    return verdicts


@compiled
def _judge(slots: U64, high: U64, low: U64, versions: U64, labels: U8, rows: U8, deltas: I8) -> int:
    added = 0
    for i in range(len(high)):
        if i + PREFETCH_DISTANCE < len(high):
            fetch(slots, high[i + PREFETCH_DISTANCE], low[i + PREFETCH_DISTANCE])
        at, new = claim(slots, high[i], low[i])
        added += new
        word = slots[at]
        version = versions[i]
        newer = version > (word & VERSION)
        seen = word & SEEN
        if version & UNDO:
            labels[i] = UNDONE
            rows[i] = VERSION_ROW if newer else NO_ROW
        elif seen:
            labels[i] = DUPLICATE
            rows[i] = VERSION_ROW if newer else NO_ROW
        else:
            labels[i] = COUNTED
            rows[i] = CLICK_ROW
            seen = SEEN
        after = (version if newer else word & VERSION) | seen
        slots[at] = after
        deltas[i] = active(after) - active(word)
    return added
