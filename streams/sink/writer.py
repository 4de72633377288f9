"""The writes of a flush, in an order that makes a crash between any two of them harmless.

| step     | writes                                         | cost of a crash right after it           |
|----------|------------------------------------------------|------------------------------------------|
| labels   | retimed, things, subscription_orders,          | a replay; the same rows again            |
|          | rejected, late, duplicates, undos              |                                          |
| flattrs  | flattrs, one block per month                   | a replay; recovery knows them            |
| counts   | counts by creator, thing, member               | a replay; recovery writes them again     |
| progress | one row per partition: position and tallies    | nothing: everything up to it is skipped  |
"""

from __future__ import annotations

from collections.abc import Callable

from streams.errors import StreamStopped
from streams.operating.tracing import BatchTrace, Insert
from streams.retry import patiently
from streams.sink.flush_rows import STEPS, Rows
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseRefused
from warehouse.storage.native_columns import Column


class Writer:
    """Writes rows step by step, blocking; for one worker thread.

    Retries for ``patience_s`` while the warehouse is unavailable, then raises ``StreamStopped``; raises it at once when
    the warehouse refuses rows. Any row may be written twice. ``after_step`` is called with each step's name once the
    step is in the warehouse.
    """

    def __init__(
        self, warehouse: Warehouse, *, patience_s: float, after_step: Callable[[str], None] = lambda _step: None
    ) -> None:
        self._warehouse = warehouse
        self._patience_s = patience_s
        self._after_step = after_step

    def write(self, rows: Rows, trace: BatchTrace | None = None) -> None:
        """Write all rows, ending with ``progress``. When it returns, the warehouse has them."""
        insert: Insert = self._warehouse.insert if trace is None else trace.inserting(self._warehouse)
        for step, tables in STEPS:
            for table in tables:
                for block in rows.of(table):
                    self._insert(insert, table, block)
            self._after_step(step)

    def _insert(self, insert: Insert, table: str, block: dict[str, Column]) -> None:
        try:
            patiently(insert, table, block, patience_s=self._patience_s)
        except WarehouseRefused as error:
            raise StreamStopped(f"the warehouse refuses rows of {table}: {error}") from error
