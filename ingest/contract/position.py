"""Where a click stands in its partition's log, as one number: 8 bits of epoch, 40 of offset, 16 of index."""

from __future__ import annotations

from typing import Final

#: So many clicks a block at most, for their index has 16 bits.
BLOCK_CLICKS_MAX: Final = 1 << 16
OFFSET_MAX: Final = (1 << 40) - 1


def position(epoch: int, offset: int, index: int) -> int:
    """Where a click stands, as a UInt64: it rises with the log.

    ``epoch`` rises when a topic is made anew and its offsets start from 0 again; ``offset`` is the record's;
    ``index`` is the click's in its block.
    """
    return epoch << 56 | offset << 16 | index


def epoch_of(position: int) -> int:
    """The log epoch of a position."""
    return position >> 56


def offset_of(position: int) -> int:
    """The record's offset of a position."""
    return position >> 16 & OFFSET_MAX


def index_of(position: int) -> int:
    """The index in its block of a position."""
    return position & (BLOCK_CLICKS_MAX - 1)
