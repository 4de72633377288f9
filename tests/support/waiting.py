"""Wait for something, with a deadline instead of a sleep."""

from __future__ import annotations

import time
from collections.abc import Callable

from deploy.stack.embedded import ServiceProcess
from warehouse.storage.client import Warehouse


def wait_until(
    true: Callable[[], object], what: str, *, timeout_s: float = 60, alive: ServiceProcess | None = None
) -> None:
    """Return when ``true`` is; fail when it takes longer or the part dies."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert alive is None or alive.running(), f"{alive.name} died before {what}. {alive.tail(30)}"
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s. {alive.tail(30) if alive else ''}"
        time.sleep(0.02)


def accepted(warehouse: Warehouse) -> int:
    """Clicks that progress accounts for."""
    return int(warehouse.rows("SELECT sum(arraySum(tallies.accepted)) FROM progress FINAL")[0][0])
