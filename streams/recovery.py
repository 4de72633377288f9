"""State from the warehouse: what a partition's log has led to so far.

The rows of ``flattrs`` may be ahead of ``progress``: a worker died between the two. Then the
counts of what is newer are stated again, for they may be missing, and the positions of newer
counted clicks are kept, so that their replay is not taken for a duplicate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import structlog

from streams.ahead import read_ahead
from streams.counting import add
from streams.dedupe import SEEN_BIT, merge
from streams.memory import UNBOUNDED, Memory
from streams.names import name_hash
from streams.rows import Rows
from streams.state import NO_POSITION, PAIR_STIR, TALLIES, MonthState, PartitionState
from streams.table import I8, U64
from warehouse.client import Row, Warehouse, named

_log = structlog.get_logger()
#: Words of 64 bits in a packed row of flattrs_of_partition.sql.
_PACKED_WORDS: Final = 7
_PROGRESS_EVERY: Final = 1_000_000
_MASK: Final = (1 << 64) - 1


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

    def __init__(
        self, warehouse: Warehouse, partitions: int, write: Callable[[Rows], None], memory: Memory = UNBOUNDED
    ) -> None:
        self._memory = memory
        self._warehouse = warehouse
        self._partitions = partitions
        self._write = write

    def load(self, state: PartitionState, month: int) -> MonthState:
        """Read a month of a partition. Blocks; raises ``WarehouseError``."""
        which = {"month": month, "partition": state.number, "partitions": self._partitions}
        blocks = self._warehouse.blocks(named("flattrs_of_partition"), which, {"strings_as_bytes": True})
        loaded = month_from(
            read_ahead(b"".join(packed) for (packed,) in blocks),
            memory=self._memory,
            say=f"partition {state.number}, month {month}",
        )
        # After the bulk, so that nothing newer is in the one and missed by the other.
        newer = self._warehouse.rows(named("flattrs_after"), {**which, "position": state.position})
        if newer:
            self._write(take_in_newer(loaded, state.number, month, state.position, newer))
        return loaded


def month_from(packed: Iterable[bytes], *, memory: Memory = UNBOUNDED, say: str = "") -> MonthState:
    """Build a month from packed rows (flattrs_of_partition.sql), merged or not, in any order."""
    loaded = MonthState(memory)
    for table in loaded.tables:
        table.spare = 2.0
    said = 0
    # Beside the next block's merge, for the loops release the GIL: half the time with two cores.
    with ThreadPoolExecutor(1, "recover") as beside:
        counted: Future[None] | None = None
        for block in packed:
            columns, deltas = _merge_in(loaded, np.frombuffer(block, "<u8").reshape(-1, _PACKED_WORDS))
            if counted is not None:
                counted.result()
            counted = beside.submit(_add_counts, loaded, columns, deltas)
            if loaded.flattrs.size - said >= _PROGRESS_EVERY:
                said = loaded.flattrs.size
                _log.info(f"recovering {say}: {said:,} flattrs")
        if counted is not None:
            counted.result()
    for table in loaded.tables:
        table.fit()
    if said:
        _log.info(f"recovered {say}: {loaded.flattrs.size:,} flattrs")
    return loaded


def take_in_newer(loaded: MonthState, partition: int, month: int, counted_until: int, newer: Sequence[Row]) -> Rows:
    """Take in rows that are ahead of ``progress`` (flattrs_after.sql); the counts that have to be stated again."""
    packed = [_pack(row) for row in newer]
    _add_counts(loaded, *_merge_in(loaded, np.array(packed, np.uint64)))
    for row, words in zip(newer, packed, strict=True):
        first_position = row[4]
        if counted_until < first_position != NO_POSITION:
            high, low = _pair(words)
            thing_high, thing_low = _thing(row[2])
            loaded.first_positions[high ^ thing_high, low ^ thing_low] = first_position
    return _counts_of(partition, month, loaded, newer)


def _pack(row: Row) -> tuple[int, ...]:
    """A row with names, as flattrs_of_partition.sql packs it."""
    member_id, creator_id, thing_id, version, first_position, _ = row
    things = int.from_bytes(thing_id[:8], "little"), int.from_bytes(thing_id[8:], "little")
    seen = 0 if first_position == NO_POSITION else 1 << SEEN_BIT
    return (*name_hash(member_id), *name_hash(creator_id), *things, version | seen)


def _pair(words: Sequence[int]) -> tuple[int, int]:
    """Key of (member, creator) from their hashes."""
    return (words[0] ^ words[2] * PAIR_STIR) & _MASK, (words[1] ^ words[3] * PAIR_STIR) & _MASK


def _thing(thing_id: bytes) -> tuple[int, int]:
    return int.from_bytes(thing_id[:8], "little"), int.from_bytes(thing_id[8:], "little")


def _merge_in(loaded: MonthState, grid: np.ndarray) -> tuple[np.ndarray, I8]:
    """Take packed rows into the flattrs: the rows as columns, and by how much each changed the active count."""
    columns = np.array(grid.T, np.uint64, order="C")
    thing_high, thing_low, words = columns[4:]
    pair_high, pair_low = _pairs(columns)
    return columns, merge(loaded.flattrs, pair_high ^ thing_high, pair_low ^ thing_low, words)


def _add_counts(loaded: MonthState, columns: np.ndarray, deltas: I8) -> None:
    """Bring the changes into the counts of creators, things and pairs."""
    add(loaded.creators, columns[2], columns[3], deltas)
    add(loaded.things, columns[4], columns[5], deltas)
    add(loaded.pairs, *_pairs(columns), deltas)


def _pairs(columns: np.ndarray) -> tuple[U64, U64]:
    """Keys of (member, creator) from the columns of their hashes."""
    stir = np.uint64(PAIR_STIR)
    return columns[0] ^ columns[2] * stir, columns[1] ^ columns[3] * stir


def _counts_of(partition: int, month: int, loaded: MonthState, newer: Sequence[Row]) -> Rows:
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
        flattrs = loaded.things.get(*_thing(thing_id))
        rows.add(
            "counts_by_thing", month, month=[month], creator_id=[creator_id], thing_id=[thing_id],
            partition=[partition], flattrs=[flattrs], position=[at],
        )  # fmt: skip
    for (member_id, creator_id), at in pairs.items():
        flattrs = loaded.pairs.get(*_pair((*name_hash(member_id), *name_hash(creator_id))))
        rows.add(
            "counts_by_member", month, month=[month], member_id=[member_id], creator_id=[creator_id],
            flattrs=[flattrs], position=[at],
        )  # fmt: skip
    return rows
