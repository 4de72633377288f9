"""Recovery: loads a partition's state from the warehouse.

If a worker died between writing flattrs and progress, ``flattrs`` is newer than ``progress``. The counts of the newer
flattrs are then written again, as they may be missing, and the positions of newer counted clicks are remembered, so
that their replay is not labelled duplicate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, pairwise
from typing import Any, Final, TypeVar

import numpy as np
import structlog

from streams.clicks.pseudonyms import NOBODY, Pseudonyms
from streams.counting.merge_rows import by_partition, take_in
from streams.sink.flush_rows import Rows
from streams.state.memory import UNBOUNDED, Memory
from streams.state.partition import NO_POSITION, PAIR_STIR, TALLIES, MonthState, PartitionState
from streams.state.word import SEEN_BIT
from warehouse.storage.client import Row, Warehouse, named

T = TypeVar("T")
_END: Final[Any] = object()
_log = structlog.get_logger()
#: Bytes per value in each column of flattrs_of_partitions.sql.
PACKED_BYTES: Final = (16, 16, 16, 8, 8)
#: Partitions merged in parallel; the server needs cores as well, to hash the next rows.
_THREADS: Final = 2
_PROGRESS_EVERY: Final = 1_000_000
#: Blocks of 65,536 rows instead of 8,192, as each block has some overhead in Python.
_READ: Final = {"preferred_block_size_bytes": 1 << 24}
_MASK: Final = (1 << 64) - 1


def load_partition(warehouse: Warehouse, partition: int) -> PartitionState:
    """A partition's progress and tallies; its months are loaded when a click needs them."""
    found = warehouse.rows(named("progress_of_partition"), {"partition": partition})
    state = PartitionState(partition)
    if found:
        state.position, state.record_at_ms, months, *tallies = found[0]
        for index, month in enumerate(months):
            state.tallies[month] = {name: values[index] for name, values in zip(TALLIES, tallies, strict=True)}
    return state


class Recovery:
    """Loads months of partitions, and rewrites counts where the flattrs are newer than ``progress``."""

    def __init__(
        self,
        warehouse: Warehouse,
        partitions: int,
        write: Callable[[Rows], None],
        erased: Callable[[], Pseudonyms],
        memory: Memory = UNBOUNDED,
    ) -> None:
        self._erased = erased
        self._memory = memory
        self._warehouse = warehouse
        self._partitions = partitions
        self._write = write

    def load(self, states: Sequence[PartitionState], month: int) -> list[MonthState]:
        """Load a month of these partitions. Blocks; raises ``WarehouseError``."""
        while True:
            erased = self._erased()
            loaded = self._load(states, month, erased)
            # If somebody was erased meanwhile, some rows may have a pseudonym not known here yet: load again. This call
            # also stops the worker if the identity key was replaced.
            if self._erased().rows == erased.rows:
                return loaded

    def _load(self, states: Sequence[PartitionState], month: int, erased: Pseudonyms) -> list[MonthState]:
        erased = self._with_ids_in(month, erased)
        numbers = [state.number for state in states]
        which = {"month": month, "numbers": numbers, "partitions": self._partitions}
        counted = {state.number: state.tallies.get(month, {}).get("counted", 0) for state in states}
        positions = [state.position + 1 for state in states]
        newer: dict[int, list[Row]] = {}
        # Both queries ask the same nodes: another replica might lack a row that the first had.
        with self._warehouse.shards() as shards:
            bulk = (part.packed(named("flattrs_of_partitions"), which, _READ) for part in shards)
            packed = read_ahead(chain.from_iterable(bulk))
            loaded = months_from(packed, counted, memory=self._memory, erased=erased)
            # After the bulk, so that everything newer in it is found here as well.
            for part in shards:
                for number, *row in part.rows(named("flattrs_after"), {**which, "positions": positions}):
                    newer.setdefault(number, []).append(tuple(row))
        for state in states:
            if state.number in newer:
                rows = newer[state.number]
                self._write(take_in_newer(loaded[state.number], state.number, month, state.position, rows, erased))
        # Last: retimed rows are written before the flattrs that depend on them, so those of every flattr read above
        # exist.
        retimed = self._warehouse.packed(named("retimed_of_partitions"), which, _READ)
        take_in_retimed(retimed, {state.number: state.position for state in states}, loaded)
        return [loaded[number] for number in numbers]

    def _with_ids_in(self, month: int, erased: Pseudonyms) -> Pseudonyms:
        """Who was erased before there was a key and still has the id in this month, which was closed by then."""
        digests = erased.older_before(month)
        if not digests:
            return erased
        rows = self._warehouse.rows(named("erased_by_sha256"), {"month": month, "digests": digests})
        return erased.with_ids(member_id for (member_id,) in rows)


def months_from(
    packed: Iterable[Sequence[bytearray]],
    counted: Mapping[int, int],
    *,
    memory: Memory = UNBOUNDED,
    erased: Pseudonyms = NOBODY,
) -> dict[int, MonthState]:
    """Build a month of each partition from blocks of flattrs_of_partitions.sql, merged or not, in any order.

    ``counted`` maps each partition to its approximate number of flattrs, for which space is reserved.
    """
    months = {number: MonthState(memory) for number in counted}
    numbers = np.array(list(months), np.uint64)
    said = taken = 0
    with ThreadPoolExecutor(_THREADS, "recover") as threads:
        for block in packed:
            columns = [np.frombuffer(column, "<u8") for column in block]
            columns[0] = erased.to_state(columns[0].reshape(-1, 2)).reshape(-1)
            rows, ends = by_partition(columns[-1], numbers)
            # Each table in one thread at a time; the loops release the GIL.
            slices = [rows[begin:end] for begin, end in pairwise(ends)]
            list(threads.map(partial(take_in, columns), slices, months.values(), counted.values()))
            taken += len(rows)
            if taken - said >= _PROGRESS_EVERY:
                said = taken
                _log.info("recovering", rows=taken, of_about=sum(counted.values()))
    for month in months.values():
        for table in month.tables:
            table.fit()
    return months


def take_in_retimed(
    packed: Iterable[Sequence[bytearray]], counted_until: Mapping[int, int], months: Mapping[int, MonthState]
) -> None:
    """Add blocks of retimed_of_partitions.sql to the months of their partitions."""
    for block in packed:
        keys, words, positions, numbers = (np.frombuffer(column, "<u8") for column in block)
        for number, month in months.items():
            until = counted_until[number]
            of_partition = numbers == number
            newer = of_partition & (positions > until) if until >= 0 else of_partition
            past = of_partition & ~newer
            month.retimed.keep_first(keys[0::2][past], keys[1::2][past], words[past])
            for at in np.flatnonzero(newer).tolist():
                month.newer[int(keys[2 * at]), int(keys[2 * at + 1])] = int(positions[at]), int(words[at])


def take_in_newer(  # noqa: PLR0913, PLR0917 - a month, its progress, and the newer rows
    loaded: MonthState,
    partition: int,
    month: int,
    counted_until: int,
    newer: Sequence[Row],
    erased: Pseudonyms = NOBODY,
) -> Rows:
    """Add rows newer than ``progress`` (flattrs_after.sql) to a month; returns the counts to write again."""
    newer = [(erased.name(member_id, month), *rest) for member_id, *rest in newer]
    packed = [_pack(row, erased) for row in newer]
    grid = np.array(packed, np.uint64)
    columns = [grid[:, begin:end].reshape(-1) for begin, end in ((0, 2), (2, 4), (4, 6), (6, 7))]
    take_in(columns, np.arange(len(newer)), loaded)
    for row, words in zip(newer, packed, strict=True):
        first_position = row[4]
        if counted_until < first_position != NO_POSITION:
            high, low = _pair(words)
            thing_high, thing_low = _thing(row[2])
            loaded.first_positions[high ^ thing_high, low ^ thing_low] = first_position
    return _counts_of(partition, month, loaded, newer, erased)


def _pack(row: Row, erased: Pseudonyms) -> tuple[int, ...]:
    """The words of a row with names, as in flattrs_of_partitions.sql but without the partition."""
    member_id, creator_id, thing_id, version, first_position, _ = row
    things = int.from_bytes(thing_id[:8], "little"), int.from_bytes(thing_id[8:], "little")
    seen = 0 if first_position == NO_POSITION else 1 << SEEN_BIT
    return (*erased.state_hash(member_id), *erased.hash(creator_id), *things, version | seen)


def _pair(words: Sequence[int]) -> tuple[int, int]:
    """The key of (member, creator) from their hashes."""
    return (words[0] ^ words[2] * PAIR_STIR) & _MASK, (words[1] ^ words[3] * PAIR_STIR) & _MASK


def _thing(thing_id: bytes) -> tuple[int, int]:
    return int.from_bytes(thing_id[:8], "little"), int.from_bytes(thing_id[8:], "little")


def _counts_of(partition: int, month: int, loaded: MonthState, newer: Sequence[Row], erased: Pseudonyms) -> Rows:
    """The counts of all creators, things and pairs in the rows, at the position of the last change of each."""
    creators: dict[str, int] = {}
    things: dict[tuple[str, bytes], int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for member_id, creator_id, thing_id, _, _, at in newer:
        creators[creator_id] = max(at, creators.get(creator_id, 0))
        things[creator_id, thing_id] = max(at, things.get((creator_id, thing_id), 0))
        pairs[member_id, creator_id] = max(at, pairs.get((member_id, creator_id), 0))
    rows = Rows()
    for creator_id, at in creators.items():
        flattrs = loaded.creators.get(*erased.hash(creator_id))
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
        flattrs = loaded.pairs.get(*_pair((*erased.state_hash(member_id), *erased.hash(creator_id))))
        rows.add(
            "counts_by_member", month, month=[month], member_id=[member_id], creator_id=[creator_id],
            flattrs=[flattrs], position=[at],
        )  # fmt: skip
    return rows


def read_ahead(items: Iterable[T], most: int = 4) -> Iterator[T]:
    """Yield the items, prefetching up to ``most`` of them in a thread.

    Raises what the iteration raises. An abandoned iteration ends once its next item has arrived.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        waiting = [thread.submit(next, source, _END) for _ in range(most)]
        while (item := waiting.pop(0).result()) is not _END:
            waiting.append(thread.submit(next, source, _END))
            yield item
