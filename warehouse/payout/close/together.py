"""Two statements at a time: most of the close's leave a core idle while they sort, hash or write."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from warehouse.storage.client import Warehouse

One = TypeVar("One")
Other = TypeVar("Other")


def together(warehouse: Warehouse, one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    """Call both at once, the second in a thread with a connection of its own; their answers when both have ended.

    Raises what the first raises, then what the second raises; never before the other has ended too.
    """

    def beside() -> Other:
        try:
            return other()
        finally:
            warehouse.close()

    with ThreadPoolExecutor(1, "beside") as thread:
        second = thread.submit(beside)
        return one(), second.result()
