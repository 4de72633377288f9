"""One close at a time: a lock that cannot outlive its holder.

The lock is a running query with a fixed query_id. The server refuses a second query with the same id, and cancels a
query whose connection is gone: the lock of a killed holder is released within a second, with no lease to wait for
and no row to clean up. If the server restarts, the lock is lost while its holder lives on. ``check`` notices that;
until then two holders would write the same bytes, because every stage is a function of the month's inputs.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from warehouse.payout.errors import MonthLocked
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError, WarehouseRefused

_QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216

_HOLD = """
SELECT sleepEachRow(0.02) FROM numbers(1000000000)
SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0, max_execution_time = 0
"""


#: Held while closing a month or changing what a close reads.
CLOSE: Final = "month-close"


class Lock:
    """A named lock; ``check`` tells whether it is still held."""

    def __init__(self, warehouse: Warehouse, name: str) -> None:
        self.query_id = f"{warehouse.database}-{name}"
        self._warehouse = warehouse
        self._answered = threading.Event()
        self._done = threading.Event()
        self._error: WarehouseError | None = None
        self._thread = threading.Thread(target=self._hold, name=self.query_id, daemon=True)

    def acquire(self) -> None:
        """Take the lock, or raise ``MonthLocked`` at once."""
        self._thread.start()
        self._answered.wait()
        if isinstance(self._error, WarehouseRefused) and self._error.code == _QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING:
            raise MonthLocked("Another close is running: wait for it to finish, then look at its result.")
        if self._error is not None:
            raise self._error

    def check(self) -> None:
        """Raise ``MonthLocked`` if the lock was lost, for example by a restart of the server."""
        if not self._thread.is_alive():
            raise MonthLocked("The warehouse lost this close's lock, perhaps by a restart: run the close again.")

    def release(self) -> None:
        """Release the lock, and wait until the server has done so."""
        self._done.set()
        self._thread.join()
        self._warehouse.command(f"KILL QUERY WHERE query_id = '{self.query_id}' SYNC")

    def _hold(self) -> None:
        holder = f"/* held by {socket.gethostname()} process {os.getpid()} */"
        try:
            for _ in self._warehouse.stream(f"{holder} {_HOLD}", query_id=self.query_id):
                self._answered.set()
                if self._done.is_set():
                    return
        except WarehouseError as error:
            self._error = error
        finally:
            self._answered.set()


@contextmanager
def locked(warehouse: Warehouse, name: str) -> Iterator[Lock]:
    """Hold the named lock. Raises ``MonthLocked`` at once if another process holds it."""
    lock = Lock(warehouse, name)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()
