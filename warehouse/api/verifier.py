"""The equations of warehouse/counts/equations.py for a page and for metrics, rate-limited."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from ingest.runtime.clock import Clock
from ingest.runtime.kafka_settings import BrokerSettings, client_security
from warehouse.api.cache import CoalescingCache
from warehouse.api.metrics import ApiMetrics
from warehouse.api.settings import ApiSettings
from warehouse.counts.equations import Equation, KafkaLog, Reached, check_log, check_warehouse, read_reached
from warehouse.storage.client import Warehouse, named
from warehouse.storage.errors import WarehouseError

_log = structlog.get_logger()
_TIMEOUT_S: Final = 120
_LOG_TIMEOUT_S: Final = 30
#: One thread of the warehouse, which leaves the others to clicks and reads.
_GENTLY: Final = {"max_threads": 1}
_NOT_ASKED: Final = "Not checked: set `FLATTR_API_VERIFY_LOG`, or run `flattr verify`."


@dataclass(frozen=True)
class Compared:
    """All equations as of one moment. ``log`` says why the log was not checked, or is empty."""

    checks: tuple[Equation, ...]
    at_ms: int
    took_ms: int
    log: str
    erasing: bool

    @property
    def wrong(self) -> int:
        """How many equations do not hold."""
        return sum(not check.holds for check in self.checks)


class Verifier:
    """Checks on request, at most once in ``api_verify_s``; requests in between get the last result."""

    def __init__(self, settings: ApiSettings, clock: Clock, metrics: ApiMetrics) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        # Read now: settings that no check could work with keep the API from starting, as they do any other service.
        self._where = BrokerSettings() if settings.api_verify_log else None
        self._cached: CoalescingCache[str, Compared] = CoalescingCache(
            ttl_s=settings.api_verify_s, monotonic=time.monotonic
        )

    async def get(self) -> Compared:
        """The last result, or a new one. Raises ``WarehouseError``."""
        return await self._cached.get("identity", self._compare)

    async def run(self) -> None:
        """Check at intervals, for the metrics."""
        while True:
            try:
                await self.get()
            except WarehouseError as error:
                _log.warning("the equations could not be checked", error=str(error))
            except Exception:  # noqa: BLE001 - whatever it is
                # The task must not end unsaid: nobody would check until the next start.
                _log.exception("the equations could not be checked")
            await asyncio.sleep(self._settings.api_verify_s)

    async def _compare(self) -> Compared:
        compared = await asyncio.to_thread(self._ask)
        self._metrics.verify_equations.set(len(compared.checks))
        self._metrics.verify_wrong.set(compared.wrong)
        # A log that did not answer is not checked: VerifyMissing says so if that lasts.
        if compared.log in {"", _NOT_ASKED}:
            self._metrics.verify_at.set_to_current_time()
        return compared

    def _ask(self) -> Compared:
        at_ms, began = self._clock(), time.monotonic()
        # A connection of its own, because it may take longer than the API's query timeout.
        url = self._settings.warehouse.get_secret_value()
        with contextlib.closing(Warehouse(url, timeout_s=_TIMEOUT_S, settings=_GENTLY)) as warehouse:
            found = warehouse.rows(named("verify_partitions"))
            reached = read_reached(warehouse, found[0][0] if found else 0, self._settings.log_epoch)
            checks = check_warehouse(warehouse, reached) if reached.positions else []
            of_log, log = self._ask_log(warehouse, reached)
            erasing = bool(warehouse.rows(named("erasure_unfinished")))
        took_ms = round(1000 * (time.monotonic() - began))
        return Compared((*checks, *of_log), at_ms, took_ms, log, erasing)

    def _ask_log(self, warehouse: Warehouse, reached: Reached) -> tuple[list[Equation], str]:
        where = self._where
        if where is None:
            return [], _NOT_ASKED
        log = KafkaLog(where.broker, where.topic_clicks, client_security(where))
        try:
            return asyncio.run(asyncio.wait_for(check_log(warehouse, reached, log), _LOG_TIMEOUT_S)), ""
        except (KafkaError, OSError) as error:
            _log.warning("the log could not be checked", error=repr(error))
            return [], f"No answer from {where.broker}: {type(error).__name__}."
