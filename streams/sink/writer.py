"""The writes of a flush, in an order that makes a crash between any two of them harmless.

The tables of one step go out side by side, for each waits for the disk, and on a cluster for a quorum; the next step
begins when all of them are in the warehouse.

| step     | writes                                         | cost of a crash right after it           |
|----------|------------------------------------------------|------------------------------------------|
| labels   | retimed, things, subscription_orders,          | a replay; the same rows again            |
|          | rejected, late, duplicates, undos              |                                          |
| flattrs  | flattrs, one block per month                   | a replay; recovery knows them            |
| counts   | counts by creator, thing, member               | a replay; recovery writes them again     |
| progress | one row per partition: position and tallies    | nothing: everything up to it is skipped  |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

from streams.errors import StreamStopped
from streams.operating.tracing import BatchTrace, Insert
from streams.retry import patiently
from streams.sink.flush_rows import STEPS, Rows
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseRefused
from warehouse.storage.native_columns import Column

#: Of a stream worker. A flush of 248 ms on a cluster of 2 x 2 nodes takes 110 with two lanes and 105 with three; on one
#: server it takes as long as with none.
LANES: Final = 2
#: A table, and rows of it.
Block = tuple[str, dict[str, Column]]


class Writer:
    """Writes rows step by step, blocking; for one worker thread, and ``lanes`` of its own beside it.

    Retries for ``patience_s`` while the warehouse is unavailable, then raises ``StreamStopped``; raises it at once when
    the warehouse refuses rows. Any row may be written twice. ``after_step`` is called with each step's name once the
    step is in the warehouse.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        patience_s: float,
        after_step: Callable[[str], None] = lambda _step: None,
        lanes: int = 0,
    ) -> None:
        self._warehouse = warehouse
        self._patience_s = patience_s
        self._after_step = after_step
        #: Of one thread each, so that each connection can be closed where it was opened.
        self._lanes = [ThreadPoolExecutor(1, f"write-{number}") for number in range(lanes)]

    def write(self, rows: Rows, trace: BatchTrace | None = None) -> None:
        """Write all rows, ending with ``progress``. When it returns, the warehouse has them."""
        insert: Insert = self._warehouse.insert if trace is None else trace.inserting(self._warehouse)
        for step, tables in STEPS:
            self._insert_all(insert, [(table, block) for table in tables for block in rows.of(table)])
            self._after_step(step)

    def close(self) -> None:
        """Stop the lanes. A write in progress still finishes."""
        for lane in self._lanes:
            lane.submit(self._warehouse.close)
            lane.shutdown(wait=False)

    def _insert_all(self, insert: Insert, blocks: Sequence[Block]) -> None:
        """Insert the blocks of a step. When this returns or raises, none of them is under way any more."""
        own, *others = (blocks[at :: len(self._lanes) + 1] for at in range(len(self._lanes) + 1))
        beside = [
            lane.submit(self._insert_each, insert, some) for lane, some in zip(self._lanes, others, strict=True) if some
        ]
        try:
            self._insert_each(insert, own)
        finally:
            wait(beside)
        for done in beside:
            done.result()

    def _insert_each(self, insert: Insert, blocks: Sequence[Block]) -> None:
        for table, block in blocks:
            self._insert(insert, table, block)

    def _insert(self, insert: Insert, table: str, block: dict[str, Column]) -> None:
        try:
            patiently(insert, table, block, patience_s=self._patience_s)
        except WarehouseRefused as error:
            raise StreamStopped(f"the warehouse refuses rows of {table}: {error}") from error
