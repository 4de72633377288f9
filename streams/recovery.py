"""State from the warehouse: what a partition's log has led to so far.

The rows of ``flattrs`` may be ahead of ``progress``: a worker died between the two. Then the
counts of what is newer are stated again, for they may be missing, and the positions of newer
counted clicks are kept, so that their replay is not taken for a duplicate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import structlog

from streams.batch import PAIR_STIR
from streams.counting import count
from streams.dedupe import merge
from streams.names import name_hash
from streams.rows import Rows
from streams.state import TALLIES, MonthState, PartitionState
from warehouse.client import Row, Warehouse, named

_log = structlog.get_logger()
_NO_POSITION = (1 << 64) - 1
_ROWS_AT_ONCE = 50_000
_MASK = (1 << 64) - 1


def load_partition(warehouse: Warehouse, partition: int) -> PartitionState:
    """How far the partition is counted and its tallies; its months come when a click needs them."""
    found = warehouse.rows(named("progress_of_partition"), {"partition": partition})
    state = PartitionState(partition)
    if found:
        state.position, state.record_at_ms, months, *tallies = found[0]
        for index, month in enumerate(months):
            state.tallies[month] = {name: values[index] for name, values in zip(TALLIES, tallies, strict=True)}
    return state


class Recovery:
    """Loads months of partitions; states counts anew where the flattrs are ahead of ``progress``."""

    def __init__(self, warehouse: Warehouse, partitions: int, write: Callable[[Rows], None]) -> None:
        self._warehouse = warehouse
        self._partitions = partitions
        self._write = write

    def load(self, state: PartitionState, month: int) -> MonthState:
        """Read a month of a partition. Blocks; raises ``WarehouseError``."""
        which = {"month": month, "partition": state.number, "partitions": self._partitions}
        loaded = MonthState()
        stream = self._warehouse.stream(named("flattrs_of_partition"), which)
        read = 0
        while rows := list(itertools.islice(stream, _ROWS_AT_ONCE)):
            _take_in(loaded, rows)
            read += len(rows)
            if read % (10 * _ROWS_AT_ONCE) == 0:
                _log.info("recovering", partition=state.number, month=month, flattrs=loaded.flattrs.size)
        # After the bulk, so that nothing newer is in the one and missed by the other.
        newer = self._warehouse.rows(named("flattrs_after"), {**which, "position": state.position})
        if newer:
            self._take_in_newer(state, month, loaded, newer)
        _log.info("month recovered", partition=state.number, month=month, flattrs=loaded.flattrs.size, newer=len(newer))
        return loaded

    def _take_in_newer(self, state: PartitionState, month: int, loaded: MonthState, newer: list[Row]) -> None:
        _take_in(loaded, [_hashed(row) for row in newer])
        for row, hashed in zip(newer, map(_hashed, newer), strict=True):
            if state.position < row[4] != _NO_POSITION:
                pair = ((hashed[0] ^ hashed[2] * PAIR_STIR) & _MASK, (hashed[1] ^ hashed[3] * PAIR_STIR) & _MASK)
                loaded.first_positions[pair[0] ^ hashed[4], pair[1] ^ hashed[5]] = row[4]
        self._write(_counts_of(state.number, month, loaded, newer))


def _hashed(row: Row) -> Row:
    """A row with names, as the row with hashes that ``flattrs_of_partition`` gives."""
    member_id, creator_id, thing_id, version, first_position, _ = row
    things = int.from_bytes(thing_id[:8], "big"), int.from_bytes(thing_id[8:], "big")
    return (*name_hash(member_id), *name_hash(creator_id), *things, version, first_position)


def _take_in(loaded: MonthState, rows: list[Row]) -> None:
    grid = np.array(rows, np.uint64)
    member_high, member_low, creator_high, creator_low, thing_high, thing_low, versions, first = (
        np.ascontiguousarray(column) for column in grid.T
    )
    stir = np.uint64(PAIR_STIR)
    pair_high, pair_low = member_high ^ creator_high * stir, member_low ^ creator_low * stir
    seen = (first != np.uint64(_NO_POSITION)).astype(np.uint8)
    deltas = merge(loaded.flattrs, pair_high ^ thing_high, pair_low ^ thing_low, versions, seen)
    count(loaded.creators, creator_high, creator_low, deltas)
    count(loaded.things, thing_high, thing_low, deltas)
    count(loaded.pairs, pair_high, pair_low, deltas)


def _counts_of(partition: int, month: int, loaded: MonthState, newer: list[Row]) -> Rows:
    """Counts of all creators, things and pairs that the rows are of, as of the last that changed each."""
    creators: dict[str, int] = {}
    things: dict[tuple[str, bytes], int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for member_id, creator_id, thing_id, _, _, at in newer:
        creators[creator_id] = max(at, creators.get(creator_id, 0))
        things[creator_id, thing_id] = max(at, things.get((creator_id, thing_id), 0))
        pairs[member_id, creator_id] = max(at, pairs.get((member_id, creator_id), 0))
    rows = Rows()
    for creator_id, at in creators.items():
        flattrs = loaded.creators.get(*name_hash(creator_id))
        rows.add(
            "counts_by_creator", month, month=[month], creator_id=[creator_id], partition=[partition],
            flattrs=[flattrs], position=[at],
        )  # fmt: skip
    for (creator_id, thing_id), at in things.items():
        flattrs = loaded.things.get(int.from_bytes(thing_id[:8], "big"), int.from_bytes(thing_id[8:], "big"))
        rows.add(
            "counts_by_thing", month, month=[month], creator_id=[creator_id], thing_id=[thing_id],
            partition=[partition], flattrs=[flattrs], position=[at],
        )  # fmt: skip
    for (member_id, creator_id), at in pairs.items():
        member, creator = name_hash(member_id), name_hash(creator_id)
        key = ((member[half] ^ creator[half] * PAIR_STIR) & _MASK for half in (0, 1))
        rows.add(
            "counts_by_member", month, month=[month], member_id=[member_id], creator_id=[creator_id],
            flattrs=[loaded.pairs.get(*key)], position=[at],
        )  # fmt: skip
    return rows
