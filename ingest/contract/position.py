"""Where a click stands in its partition's log, as one number: 8 bits of epoch, 40 of offset, 16 of index."""

from __future__ import annotations

from typing import Final

#: The most clicks a block may hold, as the index has 16 bits.
BLOCK_CLICKS_MAX: Final = 1 << 16
OFFSET_MAX: Final = (1 << 40) - 1
EPOCH_MAX: Final = (1 << 8) - 1


def position(epoch: int, offset: int, index: int) -> int:
    """Where a click stands in its partition, as a UInt64 that rises with the log.

    ``epoch`` is raised when a topic is recreated and its offsets restart from 0; ``offset`` is the record's;
    ``index`` is the click's index in its block.
    """
    return epoch << 56 | offset << 16 | index


def epoch_of(position: int) -> int:
    """The log epoch of a position."""
    return position >> 56


def offset_of(position: int) -> int:
    """The record's offset in a position."""
    return position >> 16 & OFFSET_MAX


def index_of(position: int) -> int:
    """The click's index in its block."""
    return position & (BLOCK_CLICKS_MAX - 1)
