"""A flattr's state, as one word of 64 bits. Pure, compiled.

The word is the flattr's version (its last click's; the largest wins) with bit 63 set once a flattr click of it has
been counted. It is active when that last click is no undo.
A click's version: 43 bits of its time, 1 of undo (it wins a tie), 19 of the click id's hash.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streams.state.hash_table import compiled

UNDO_BIT: Final = 19
UNDO: Final = np.uint64(1 << UNDO_BIT)
SEEN_BIT: Final = 63
SEEN: Final = np.uint64(1 << SEEN_BIT)
#: A version without the flag: times end before its bit (``ingest.contract.times.TIME_END_MS``).
VERSION_MASK: Final = (1 << SEEN_BIT) - 1
VERSION: Final = np.uint64(VERSION_MASK)


@compiled
def merged(word: np.uint64, other: np.uint64) -> np.uint64:
    """What two words of one flattr say together, whichever came first."""
    return max(word & VERSION, other & VERSION) | ((word | other) & SEEN)


@compiled
def active(word: np.uint64) -> int:
    """1 for a flattr that counts, 0 for one taken back or never clicked."""
    return 1 if word != 0 and (word & UNDO) == 0 else 0
