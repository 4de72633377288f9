"""Blocking retries of warehouse calls, for a worker's threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

import structlog

from ingest.runtime.backoff import backoff_s
from ingest.runtime.repeated import Repeated
from streams.errors import StreamStopped
from warehouse.storage.errors import WarehouseUnavailable

#: The limit for reads that a worker needs before it can count.
READ_PATIENCE_S: Final = 60.0
_FIRST_S: Final = 0.1
_MAX_S: Final = 5.0
_outages = Repeated(structlog.get_logger())
Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


def patiently(call: Callable[[*Arguments], T], *arguments: *Arguments, patience_s: float = READ_PATIENCE_S) -> T:
    """Call a function, retrying with backoff while it raises ``WarehouseUnavailable``.

    Raises ``StreamStopped`` after ``patience_s``; any other error is raised at once.
    """
    deadline = time.monotonic() + patience_s
    attempt = 0
    while True:
        try:
            return call(*arguments)
        except WarehouseUnavailable as error:
            if time.monotonic() > deadline:
                raise StreamStopped(f"the warehouse has been unavailable for {patience_s:.0f} s: {error}") from error
            pause_s = backoff_s(attempt, first_s=_FIRST_S, max_s=_MAX_S)
            _outages.warning("the warehouse is unavailable; retrying", retry_in_s=round(pause_s, 3), error=str(error))
            time.sleep(pause_s)
            attempt += 1
