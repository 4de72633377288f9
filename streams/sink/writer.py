"""The flush's writes, in the order that makes every crash between them harmless.

| step     | writes                                         | a crash right after it costs             |
|----------|------------------------------------------------|------------------------------------------|
| labels   | retimed, things, rejected, late, duplicates,   | a replay; the same rows again            |
|          | undos                                          |                                          |
| flattrs  | flattrs, one block per month                   | a replay; they are known at recovery     |
| counts   | counts by creator, thing, member               | the same; recovery states them again     |
| progress | one row per partition: position and tallies    | nothing: what is below it is skipped     |
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from streams.errors import StreamStopped
from streams.operating.tracing import BatchTrace, Insert
from streams.sink.flush_rows import STEPS, Rows
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseRefused, WarehouseUnavailable
from warehouse.storage.native_columns import Column

_log = structlog.get_logger()
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0


class Writer:
    """Writes rows step by step, blocking: for one worker thread.

    An unavailable warehouse is tried again for ``patience_s``, then ``StreamStopped`` is
    raised; a refusing one raises at once. Every row may be written twice. ``after_step`` is
    called with each step's name once the step is in the warehouse.
    """

    def __init__(
        self, warehouse: Warehouse, *, patience_s: float, after_step: Callable[[str], None] = lambda _step: None
    ) -> None:
        self._warehouse = warehouse
        self._patience_s = patience_s
        self._after_step = after_step

    def write(self, rows: Rows, trace: BatchTrace | None = None) -> None:
        """Write all rows. When it returns, the warehouse has them and says so in ``progress``."""
        insert: Insert = self._warehouse.insert if trace is None else trace.inserting(self._warehouse)
        for step, tables in STEPS:
            for table in tables:
                for block in rows.of(table):
                    self._insert(insert, table, block)
            self._after_step(step)

    def _insert(self, insert: Insert, table: str, block: dict[str, Column]) -> None:
        deadline = time.monotonic() + self._patience_s
        pause_s = _BACKOFF_FIRST_S
        while True:
            try:
                insert(table, block)
            except WarehouseRefused as error:
                raise StreamStopped(f"the warehouse refuses rows of {table}: {error}") from error
            except WarehouseUnavailable as error:
                if time.monotonic() > deadline:
                    raise StreamStopped(f"no warehouse for {self._patience_s:.0f} s: {error}") from error
                _log.warning("warehouse unavailable", table=table, retry_in_s=pause_s, error=str(error))
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _BACKOFF_MAX_S)
            else:
                return
