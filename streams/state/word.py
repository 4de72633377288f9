"""A flattr's state as one 64-bit word. Pure, compiled.

The word is the flattr's version (the largest of its clicks' versions), with bit 63 set once a flattr click has been
counted. The flattr is active if that version is not an undo's. A click's version has 43 bits of time, 1 undo bit (an
undo wins a tie) and 19 bits of the click id's hash.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streams.state.hash_table import compiled

UNDO_BIT: Final = 19
UNDO: Final = np.uint64(1 << UNDO_BIT)
SEEN_BIT: Final = 63
SEEN: Final = np.uint64(1 << SEEN_BIT)
#: The version without the flag; times never reach that bit (``ingest.contract.times.TIME_END_MS``).
VERSION_MASK: Final = (1 << SEEN_BIT) - 1
VERSION: Final = np.uint64(VERSION_MASK)


@compiled
def merged(word: np.uint64, other: np.uint64) -> np.uint64:
    """Merge two words of one flattr: commutative, associative and idempotent."""
    return max(word & VERSION, other & VERSION) | ((word | other) & SEEN)


@compiled
def active(word: np.uint64) -> int:
    """1 for an active flattr, 0 for one that was undone or never clicked."""
    return 1 if word != 0 and (word & UNDO) == 0 else 0
