"""Merging rows of the warehouse into a month's tables, in one pass over a block. Pure, compiled.

Columns are those of flattrs_of_partitions.sql: two words each of member, creator and thing, and the flattr's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from streams.state.hash_table import I64, PREFETCH_DISTANCE, U64, claim, compiled, fetch
from streams.state.partition import PAIR_STIR, MonthState
from streams.state.word import active, merged

#: Two large tables are prefetched at a time, so half the distance keeps as many fetches in flight.
_DISTANCE: Final = PREFETCH_DISTANCE // 2


@compiled
def by_partition(partitions: U64, numbers: U64) -> tuple[I64, I64]:
    """Sort rows by partition: their indices, and each partition's start among them, plus the end (length + 1)."""
    place = np.zeros(np.max(numbers) + np.uint64(1), np.int64)
    for at in range(len(numbers)):
        place[numbers[at]] = at
    ends = np.zeros(len(numbers) + 1, np.int64)
    for i in range(len(partitions)):
        ends[place[partitions[i]] + 1] += 1
    ends = np.cumsum(ends)
    nexts = ends.copy()
    rows = np.empty(len(partitions), np.int64)
    for i in range(len(partitions)):
        at = place[partitions[i]]
        rows[nexts[at]] = i
        nexts[at] += 1
    return rows, ends


def take_in(columns: Sequence[U64], rows: I64, month: MonthState, counted: int = 0) -> None:
    """Merge these rows of a block into a month that will have about ``counted`` flattrs."""
    # Rows are ordered by member, so the first ones predict the ratio of pairs to flattrs.
    pairs = counted * month.pairs.size // max(1, month.flattrs.size)
    for table, foretold in zip(month.tables, (counted, 0, 0, pairs), strict=True):
        table.reserve(len(rows), foretold)
    added = _merge(rows, *columns[:4], *(table.slots for table in month.tables))
    for table, new in zip(month.tables, added, strict=True):
        table.size += new


@compiled
def _key(members: U64, creators: U64, things: U64, row: int) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """The keys of a row's pair and flattr."""
    stir = np.uint64(PAIR_STIR)
    high = members[2 * row] ^ (creators[2 * row] * stir)
    low = members[2 * row + 1] ^ (creators[2 * row + 1] * stir)
    return high, low, high ^ things[2 * row], low ^ things[2 * row + 1]


@compiled
def _merge(  # noqa: PLR0913, PLR0917 - the columns of a block and the tables of a month
    rows: I64, members: U64, creators: U64, things: U64, words: U64,
    of_flattrs: U64, of_creators: U64, of_things: U64, of_pairs: U64,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Merge rows into the flattrs and update the counts; returns the number of new keys in each table."""
    flattrs = new_creators = new_things = new_pairs = 0
    for j in range(len(rows)):
        if j + _DISTANCE < len(rows):
            i = rows[j + _DISTANCE]
            pair_high, pair_low, high, low = _key(members, creators, things, i)
            fetch(of_flattrs, high, low)
            fetch(of_pairs, pair_high, pair_low)
            fetch(of_things, things[2 * i], things[2 * i + 1])
        i = rows[j]
        pair_high, pair_low, high, low = _key(members, creators, things, i)
        at, new = claim(of_flattrs, high, low)
        flattrs += new
        before = of_flattrs[at]
        after = merged(before, words[i])
        of_flattrs[at] = after
        delta = active(after) - active(before)
        if delta != 0:
            # Unsigned wrap-around subtracts; a count cannot become negative.
            change = np.uint64(np.int64(delta))
            at, new = claim(of_creators, creators[2 * i], creators[2 * i + 1])
            new_creators += new
            of_creators[at] += change
            at, new = claim(of_things, things[2 * i], things[2 * i + 1])
            new_things += new
            of_things[at] += change
            at, new = claim(of_pairs, pair_high, pair_low)
            new_pairs += new
            of_pairs[at] += change
    return flattrs, new_creators, new_things, new_pairs
