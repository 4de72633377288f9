"""What a click does to its flattr: pure, compiled, the one place where it is decided.

A flattr's state is one word: its version (the last word, largest wins) with bit 63 set
once a flattr click of it has been counted. It is active when the last word is no undo.
A click's version: 43 bits of its time, 1 of undo (it wins a tie), 19 of the click id's hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.state.hash_table import AHEAD, I8, U8, U64, Table, claim, compiled, fetch

UNDO_BIT: Final = 19
_UNDO: Final = np.uint64(1 << UNDO_BIT)
SEEN_BIT: Final = 63
_SEEN: Final = np.uint64(1 << SEEN_BIT)
#: A version without the flag: times end before its bit (``ingest.contract.times.TIME_END_MS``).
VERSION_MASK: Final = (1 << SEEN_BIT) - 1
_VERSION: Final = np.uint64(VERSION_MASK)

COUNTED: Final = 0
DUPLICATE: Final = 1
UNDONE: Final = 2

#: Which row of `flattrs` a click writes.
NO_ROW: Final = 0
CLICK_ROW: Final = 1  # the counted click itself
VERSION_ROW: Final = 2  # moves the version, names no click


@dataclass(frozen=True)
class Verdicts:
    """What became of each click, as parallel arrays: label, row to write, change of the active count."""

    labels: U8
    rows: U8
    deltas: I8


def judge(flattrs: Table, high: U64, low: U64, versions: U64) -> Verdicts:
    """Take clicks into the table in their order and say what became of each."""
    verdicts = Verdicts(np.empty(len(high), np.uint8), np.empty(len(high), np.uint8), np.empty(len(high), np.int8))
    flattrs.reserve(len(high))
    flattrs.size += _judge(flattrs.slots, high, low, versions, verdicts.labels, verdicts.rows, verdicts.deltas)
    return verdicts


@compiled
def merged(word: np.uint64, other: np.uint64) -> np.uint64:
    """What two words of one flattr say together, whichever came first."""
    return max(word & _VERSION, other & _VERSION) | ((word | other) & _SEEN)


@compiled
def active(word: np.uint64) -> int:
    """1 for a flattr that counts, 0 for one taken back or never clicked."""
    return 1 if word != 0 and (word & _UNDO) == 0 else 0


@compiled
def _judge(slots: U64, high: U64, low: U64, versions: U64, labels: U8, rows: U8, deltas: I8) -> int:
    added = 0
    for i in range(len(high)):
        if i + AHEAD < len(high):
            fetch(slots, high[i + AHEAD], low[i + AHEAD])
        at, new = claim(slots, high[i], low[i])
        added += new
        word = slots[at]
        version = versions[i]
        newer = version > (word & _VERSION)
        seen = word & _SEEN
        if version & _UNDO:
            labels[i] = UNDONE
            rows[i] = VERSION_ROW if newer else NO_ROW
        elif seen:
            labels[i] = DUPLICATE
            rows[i] = VERSION_ROW if newer else NO_ROW
        else:
            labels[i] = COUNTED
            rows[i] = CLICK_ROW
            seen = _SEEN
        after = (version if newer else word & _VERSION) | seen
        slots[at] = after
        deltas[i] = active(after) - active(word)
    return added
