"""What the routes share: the warehouse behind worker threads, the clock, the lag, the metrics."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from fastapi import Depends, Request

from ingest.aliases import Aliases
from ingest.clock import clock_from
from ingest.traces import Traces
from warehouse import queries
from warehouse.api_metrics import ApiMetrics
from warehouse.api_settings import ApiSettings
from warehouse.batched import Batched
from warehouse.client import Warehouse
from warehouse.errors import WarehouseError
from warehouse.kept import Kept
from warehouse.keys import KeyRing
from warehouse.lag import Lag, read_lag
from warehouse.payout.settings import CloseSettings
from warehouse.problems import ReadReason, unavailable

P = ParamSpec("P")
T = TypeVar("T")
#: for (month, ids, version of the month's quarantine): something of each id
Ask = Callable[[int, Sequence[str], int], Awaitable[Mapping[str, T]]]
#: by query and parameters: the lag that was read first, and the answer
Answers = Kept[tuple[Any, ...], tuple[Lag, Any]]

#: Ids in one query: each may cost a granule of 8,192 rows, so one query reads 4 million at most.
_IDS_PER_QUERY: Final = 500
_ADDRESSES_KEPT: Final = 50_000
_ADDRESS_TTL_S: Final = 60
_LISTS_KEPT: Final = 500
#: An address is the same in every month.
_NO_MONTH: Final = 0
_MONTHS_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class KnownThing(queries.Count):
    """A thing's count, and whose it is and where; that is None when nobody ever flattred it."""

    of: queries.Thing | None = None


class Reads:
    """One per app. Starts its threads when the first query comes."""

    def __init__(self, settings: ApiSettings, rules: CloseSettings, traces: Traces | None = None) -> None:
        self.settings = settings
        self._traces = traces
        #: by which the close would divide
        self.rules = rules
        self.clock = clock_from(settings.clock)
        self.metrics = ApiMetrics()
        self.warehouse = Warehouse(
            settings.warehouse.get_secret_value(),
            timeout_s=settings.api_query_timeout_s + 5,
            # The server would tell its counters after each query, and the driver would read and drop them.
            settings={"max_execution_time": settings.api_query_timeout_s, "send_profile_events": 0},
        )
        self.aliases = Aliases(settings.ingest_aliases_file, self.clock)
        #: None where everything is open
        self.keys = None if settings.api_keys is None else KeyRing(settings.api_keys)
        self._threads = ThreadPoolExecutor(settings.api_threads, thread_name_prefix="warehouse")
        self._waiting = 0
        lag_ttl_s = settings.api_lag_ttl_ms / 1000
        self._lag: Kept[str, Lag] = Kept(ttl_s=lag_ttl_s, ahead_s=lag_ttl_s / 2, size_max=1, monotonic=time.monotonic)
        self._quarantines: Kept[int, int] = Kept(
            ttl_s=lag_ttl_s, ahead_s=lag_ttl_s / 2, size_max=_MONTHS_KEPT, monotonic=time.monotonic
        )
        self._lists: Answers = Kept(
            ttl_s=settings.api_lists_ttl_ms / 1000, size_max=_LISTS_KEPT, monotonic=time.monotonic
        )
        self._money: Answers = Kept(
            ttl_s=settings.api_money_ttl_ms / 1000, size_max=_LISTS_KEPT, monotonic=time.monotonic
        )
        #: for pages with buttons; kept, unlike the three below
        self.counters = self._paced(
            self._asking(queries.thing_counts),
            ttl_s=settings.api_counters_ttl_ms / 1000,
            size_max=settings.api_counters_kept,
        )
        self.creators = self._paced(self._asking(queries.creator_counts))
        self.things = self._paced(self._known_things)
        self.members = self._paced(self._asking(queries.member_counts))
        #: whose a thing is and where: that never changes, so it is kept; asked by ``things``, at its pitch
        self._addresses = Batched(
            self._fetch_addresses,
            ttl_s=_ADDRESS_TTL_S,
            size_max=_ADDRESSES_KEPT,
            batch_max=_IDS_PER_QUERY,
            monotonic=time.monotonic,
        )

    async def run(self, query: Callable[Concatenate[Warehouse, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``query(warehouse, ...)`` in a worker thread.

        Raises ``Problem`` 503 when too many wait already, and the warehouse's own errors.
        """
        if self._waiting >= self.settings.api_threads + self.settings.api_queue_max:
            raise unavailable(ReadReason.QUEUE_FULL, "too many reads at a time; ask again soon")
        self._waiting += 1
        self.metrics.queries_waiting.set(self._waiting)

        def call() -> T:
            started = time.perf_counter()
            try:
                return query(self.warehouse, *args, **kwargs)
            except WarehouseError:
                self.metrics.queries_failed.labels(query.__name__).inc()
                raise
            finally:
                self.metrics.query_seconds.labels(query.__name__).observe(time.perf_counter() - started)

        try:
            answer = asyncio.get_running_loop().run_in_executor(self._threads, call)
            if self._traces is None:
                return await answer
            from warehouse.traced import traced_query

            return await traced_query(self._traces, query.__name__, answer)
        finally:
            self._waiting -= 1
            self.metrics.queries_waiting.set(self._waiting)

    async def lag(self) -> Lag:
        """The pipeline's lag, at most ``api_lag_ttl_ms`` old. Read it before the count that it stands beside."""
        return await self._lag.get("lag", lambda: self.run(read_lag, self.clock()))

    async def flagged(self, month: int) -> int:
        """The version of a month's quarantine, at most ``api_lag_ttl_ms`` old: while it is 0, counts ask no more."""
        return await self._quarantines.get(month, lambda: self.run(queries.quarantine_version, month))

    async def keep(
        self, query: Callable[Concatenate[Warehouse, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Lag, T]:
        """Like ``run``, once for all who ask the same within ``api_lists_ttl_ms``; the lag was read before it."""
        return await self._keep(self._lists, query, *args, **kwargs)

    async def keep_longer(
        self, query: Callable[Concatenate[Warehouse, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Lag, T]:
        """The same for ``api_money_ttl_ms``, for what costs more and moves less."""
        return await self._keep(self._money, query, *args, **kwargs)

    async def _keep(
        self, kept: Answers, query: Callable[Concatenate[Warehouse, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Lag, T]:
        async def fetch() -> tuple[Lag, T]:
            lag = await self.lag()
            return lag, await self.run(query, *args, **kwargs)

        lag, answer = await kept.get((query.__name__, *args, *kwargs.items()), fetch)
        return replace(lag, now_ms=self.clock()), answer

    async def _known_things(self, month: int, thing_ids: Sequence[str], flagged: int) -> dict[str, KnownThing]:
        """At one moment: who asked would else wait for the later of two."""
        counts, addresses = await asyncio.gather(
            self.run(queries.thing_counts, month, thing_ids, flagged), self._addresses.get(_NO_MONTH, thing_ids)
        )
        return {
            thing_id: KnownThing(counts[thing_id].flattrs, counts[thing_id].quarantined, addresses[thing_id].count)
            for thing_id in thing_ids
        }

    async def _fetch_addresses(
        self, _month: int, thing_ids: Sequence[str]
    ) -> tuple[Lag, dict[str, queries.Thing | None]]:
        return await self.lag(), await self.run(queries.things, thing_ids)

    def _asking(self, query: Callable[[Warehouse, int, Sequence[str], int], dict[str, T]]) -> Ask[T]:
        async def ask(month: int, ids: Sequence[str], flagged: int) -> dict[str, T]:
            return await self.run(query, month, ids, flagged)

        return ask

    def _paced(
        self,
        ask: Ask[T],
        *,
        ttl_s: float = 0,
        size_max: int = 0,
    ) -> Batched[T]:
        async def fetch(month: int, ids: Sequence[str]) -> tuple[Lag, Mapping[str, T]]:
            lag = await self.lag()
            return lag, await ask(month, ids, await self.flagged(month))

        return Batched(
            fetch,
            ttl_s=ttl_s,
            size_max=size_max,
            batch_max=_IDS_PER_QUERY,
            monotonic=time.monotonic,
            pitch_s=self.settings.api_pitch_ms / 1000,
        )

    def close(self) -> None:
        """Wait for what runs and close every thread's connection."""
        meeting = threading.Barrier(self.settings.api_threads)

        def leave() -> None:
            # All meet first, or a quick thread would leave twice and a slow one never.
            meeting.wait(timeout=self.settings.api_query_timeout_s + 10)
            self.warehouse.close()

        for _ in range(self.settings.api_threads):
            self._threads.submit(leave)
        self._threads.shutdown()


async def reads_of(request: Request) -> Reads:
    """The app's ``Reads``."""
    return cast("Reads", request.app.state.reads)


Here = Annotated[Reads, Depends(reads_of)]
