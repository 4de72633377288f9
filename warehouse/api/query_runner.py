"""What the routes share: the warehouse behind worker threads, caches, the clock, the lag and the metrics."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from fastapi import Depends, Request
from starlette.types import Scope

from ingest.contract.month import month_before, month_of, month_text
from ingest.runtime.aliases import Aliases
from ingest.runtime.client_address import share_of
from ingest.runtime.clock import Clock, clock_from
from ingest.runtime.tokens import Tokens
from ingest.runtime.tracing import Traces
from warehouse.api.cache import CoalescingCache, weight_of
from warehouse.api.count_batcher import BatchBounds, CountBatcher
from warehouse.api.listener_limit import ListenerLimit
from warehouse.api.metrics import ApiMetrics
from warehouse.api.problems import ReadReason, unavailable
from warehouse.api.sessions import Sessions, read_secret
from warehouse.api.settings import ApiSettings
from warehouse.api.throttle import Throttle
from warehouse.counts import counts as queries
from warehouse.counts import member_flattrs
from warehouse.counts.counts import Key
from warehouse.counts.lag import Lag, read_lag
from warehouse.keys import KeyRing
from warehouse.payout.close.settings import CloseSettings
from warehouse.sites import site_of
from warehouse.storage.archived import MonthArchived, archived_months
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError

P = ParamSpec("P")
T = TypeVar("T")
#: from keys and the versions of the months' quarantines to a value for each key
Ask = Callable[[Sequence[Key], Mapping[int, int]], Awaitable[Mapping[Key, T]]]
#: by query and parameters, the lag, which is read first, and the answer
Answers = CoalescingCache[tuple[Any, ...], tuple[Lag, Any]]

_ADDRESSES_BYTES: Final = 32 << 20
_ADDRESS_TTL_S: Final = 60
#: For lists, and the same again for money: a page of a thousand lines takes a megabyte or two.
_LISTS_BYTES: Final = 32 << 20
#: Allowance for a cache key: names, a cursor and an id.
_KEY_BYTES: Final = 1000
#: Stands for every month without data: they share their queries, all of which come back empty.
NO_MONTH: Final = 0
#: The address of a request without a key to what needs one, where the operator made that public; empty otherwise.
#: It travels with the request's task, so that no route can forget whose turn a query takes.
STRANGER: Final[ContextVar[str]] = ContextVar("stranger", default="")
#: Probes come every few seconds; requests more frequent than this do not reach the warehouse.
_SHARED_TTL_S: Final = 0.25
_LANE_WAITING_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class KnownThing(queries.Count):
    """A thing's count, with its creator and address; these are None when nobody ever flattred it."""

    of: queries.Thing | None = None


class QueryRunner:
    """Runs queries for the routes. One per app; its threads start with the first query."""

    def __init__(self, settings: ApiSettings, rules: CloseSettings, traces: Traces | None = None) -> None:
        self.settings = settings
        self._traces = traces
        #: the close's rules, for estimates
        self.rules = rules
        self.clock = clock_from(settings.clock)
        self.metrics = ApiMetrics()
        self.warehouse = Warehouse(
            settings.warehouse.get_secret_value(),
            timeout_s=settings.api_query_timeout_s + 5,
            # Otherwise the server sends profile events after each query, which the driver reads and discards.
            settings={"max_execution_time": settings.api_query_timeout_s, "send_profile_events": 0},
        )
        self.aliases = Aliases(settings.ingest_aliases_file, self.clock)
        #: None if the API is open to everybody
        self.keys = None if settings.api_keys is None else KeyRing(settings.api_keys)
        self.sessions = Sessions(
            read_secret(settings.api_session_secret),
            clock=self.clock,
            monotonic=time.monotonic,
            valid_max_s=settings.api_session_s,
        )
        #: None if the API answers no member
        self.tokens = _tokens(settings, self.clock)
        self._threads = ThreadPoolExecutor(settings.api_threads, thread_name_prefix="warehouse")
        self._waiting = 0
        lag_ttl_s = settings.api_lag_ttl_ms / 1000
        self._lag: CoalescingCache[str, Lag] = CoalescingCache(
            ttl_s=lag_ttl_s, refresh_after_s=lag_ttl_s / 2, monotonic=time.monotonic
        )
        self._quarantines: CoalescingCache[str, dict[int, int]] = CoalescingCache(
            ttl_s=lag_ttl_s, refresh_after_s=lag_ttl_s / 2, monotonic=time.monotonic
        )
        self._months: CoalescingCache[str, frozenset[int]] = CoalescingCache(
            ttl_s=lag_ttl_s, refresh_after_s=lag_ttl_s / 2, monotonic=time.monotonic
        )
        self._archived: CoalescingCache[str, frozenset[int]] = CoalescingCache(
            ttl_s=lag_ttl_s, refresh_after_s=lag_ttl_s / 2, monotonic=time.monotonic
        )
        self._shared: CoalescingCache[str, Any] = CoalescingCache(ttl_s=_SHARED_TTL_S, monotonic=time.monotonic)
        #: of the live stream
        self.seats = ListenerLimit(
            settings.api_listeners_max,
            max(1, int(settings.api_listeners_max * settings.api_listeners_share)),
            reserve=self.keys is not None,
        )
        #: for anonymous requests that no cache can answer
        self.lane = Throttle(_LANE_WAITING_MAX)
        #: for tables of whole months
        self.export_lane = Throttle(_LANE_WAITING_MAX)
        #: for members' lists: one member's may be as long as that member wants
        self.member_lane = Throttle(_LANE_WAITING_MAX)
        #: for members' clicks, each of which may wait for ingest
        self.change_lane = Throttle(_LANE_WAITING_MAX)
        self._lists, self._money = (
            _answers(ttl_ms) for ttl_ms in (settings.api_lists_ttl_ms, settings.api_money_ttl_ms)
        )
        self._batch()

    def _batch(self) -> None:
        """Set up the counts that are read in batches."""
        #: for pages with buttons; cached, unlike the three below
        self.counters = self._paced(
            self._asking(queries.thing_counts, queries.thing_counts_of_months),
            ttl_s=self.settings.api_counters_ttl_ms / 1000,
            fresh_s=self.settings.api_counters_fresh_ms / 1000,
            bytes_max=self.settings.api_counters_kept_bytes,
        )
        self.creators = self._paced(self._asking(queries.creator_counts, queries.creator_counts_of_months))
        self._thing_counts = self._asking(queries.thing_counts, queries.thing_counts_of_months)
        self.things = self._paced(self._known_things)
        self.members = self._paced(self._asking(queries.member_counts, queries.member_counts_of_months))
        #: whether members flattred things, by ``member_flattrs.key``
        self.standings = self._paced(self._standings)
        #: creators and addresses of things, which never change and so are cached; queried by ``things`` at its pace
        self._addresses = CountBatcher(
            self._fetch_addresses,
            ttl_s=_ADDRESS_TTL_S,
            bytes_max=_ADDRESSES_BYTES,
            weigh=weight_of,
            monotonic=time.monotonic,
        )

    async def run(self, query: Callable[Concatenate[Warehouse, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``query(warehouse, ...)`` in a worker thread.

        Raises ``Problem`` 503 if too many calls are waiting, and ``WarehouseError``.
        """
        if self._waiting >= self.settings.api_threads + self.settings.api_queue_max:
            raise unavailable(ReadReason.QUEUE_FULL, "too many reads at a time; try again in a moment")
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
            from warehouse.api.tracing import traced_query

            return await traced_query(self._traces, query.__name__, answer)
        finally:
            self._waiting -= 1
            self.metrics.queries_waiting.set(self._waiting)

    async def lag(self) -> Lag:
        """The pipeline's lag, at most ``api_lag_ttl_ms`` old. Read it before the count that it accompanies."""
        return await self._lag.get("lag", lambda: self.run(read_lag, self.clock()))

    async def flagged(self, month: int) -> int:
        """The version of a month's quarantine, at most ``api_lag_ttl_ms`` old. At 0, counts need not read it."""
        return (await self._flagged()).get(month, 0)

    async def flagged_months(self) -> frozenset[int]:
        """The months that have, or had, a quarantine; as old as ``flagged``."""
        return frozenset(await self._flagged())

    async def _flagged(self) -> dict[int, int]:
        return await self._quarantines.get("all", lambda: self.run(queries.quarantine_versions))

    async def asked_of(self, month: int) -> int:
        """The month itself if it has any data, or else ``NO_MONTH``.

        Otherwise anybody could cause a separate query for every possible month. The current month and the one before
        it, which may be in grace, always pass; the list of the others is cached for ``api_lag_ttl_ms``.
        """
        current = month_of(self.clock())
        if month in (current, month_before(current)):
            return month
        return month if month in await self.known_months() else NO_MONTH

    async def known_months(self) -> frozenset[int]:
        """The months that have any data, at most ``api_lag_ttl_ms`` old."""
        return await self._months.get("all", lambda: self.run(queries.known_months))

    async def archived(self) -> frozenset[int]:
        """The months whose counts and clicks left the tables, at most ``api_lag_ttl_ms`` old."""
        return await self._archived.get("all", lambda: self.run(archived_months))

    async def archived_names(self) -> list[str]:
        """The same as text, oldest first: what a list of all months is without."""
        return [month_text(month) for month in sorted(await self.archived())]

    async def present(self, month: int) -> int:
        """The month. Raises ``MonthArchived`` if it left; the current month and the one before it never have."""
        if month < month_before(month_of(self.clock())) and month in await self.archived():
            raise MonthArchived(month)
        return month

    def address_of(self, scope: Scope) -> str:
        """The address whose share a request counts against: set by our server, which knows the proxies, or the peer."""
        address: str | None = scope.get("state", {}).get("address")
        peer = scope.get("client")
        return share_of(peer and peer[0]) if address is None else address

    async def share(self, query: Callable[[Warehouse], T], /) -> T:
        """Like ``run``, but coalesced for a quarter of a second: for routes that anybody may call at any rate."""
        return cast("T", await self._shared.get(query.__name__, lambda: self.run(query)))

    async def keep(
        self, query: Callable[Concatenate[Warehouse, int, P], T], month: int, /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Lag, T]:
        """Like ``run``, but cached by month and parameters for ``api_lists_ttl_ms``; returns the lag, read first, too.

        A month without data is queried as ``NO_MONTH``.
        """
        return await self._keep(self._lists, query, await self.asked_of(month), *args, **kwargs)

    async def keep_longer(
        self, query: Callable[Concatenate[Warehouse, int, P], T], month: int, /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Lag, T]:
        """Like ``keep``, but for ``api_money_ttl_ms``: for answers that cost more and change less."""
        return await self._keep(self._money, query, await self.asked_of(month), *args, **kwargs)

    async def keep_whole(
        self, query: Callable[Concatenate[Warehouse, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Lag, T]:
        """Like ``keep``, for a query that is not about one month."""
        return await self._keep(self._lists, query, *args, **kwargs)

    async def _keep(
        self, cached: Answers, query: Callable[Concatenate[Warehouse, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Lag, T]:
        stranger = STRANGER.get()

        async def fetch() -> tuple[Lag, T]:
            lag = await self.lag()
            if not stranger:
                return lag, await self.run(query, *args, **kwargs)
            async with self.lane.turn(stranger):
                return lag, await self.run(query, *args, **kwargs)

        lag, answer = await cached.get((query.__name__, *args, *kwargs.items()), fetch, stranger)
        return replace(lag, now_ms=self.clock()), answer

    async def _known_things(self, keys: Sequence[Key], flagged: Mapping[int, int]) -> dict[Key, KnownThing]:
        """Fetch counts and addresses concurrently, so that the caller does not wait for one after the other."""
        thing_ids = list(dict.fromkeys(thing_id for _, thing_id in keys))
        counts, addresses = await asyncio.gather(
            self._thing_counts(keys, flagged), self._addresses.get(NO_MONTH, thing_ids)
        )
        return {key: KnownThing(counts[key].flattrs, counts[key].quarantined, addresses[key[1]].count) for key in keys}

    async def site_of(self, thing_id: str) -> str:
        """The site of a thing; empty if it has none, or if nobody ever flattred it."""
        known = (await self._addresses.get(NO_MONTH, [thing_id]))[thing_id].count
        table = self.aliases.look().in_month(month_of(self.clock()))
        return "" if known is None else site_of(thing_id, known.creator_id, known.thing, table)

    async def _fetch_addresses(self, keys: Sequence[Key]) -> tuple[Lag, dict[Key, queries.Thing | None]]:
        lag = await self.lag()
        found = await self.run(queries.things, [thing_id for _, thing_id in keys])
        return lag, {key: found[key[1]] for key in keys}

    async def _standings(
        self, keys: Sequence[Key], _flagged: Mapping[int, int]
    ) -> Mapping[Key, member_flattrs.Standing]:
        return await self.run(member_flattrs.standings, keys)

    def _asking(
        self,
        query: Callable[[Warehouse, int, Sequence[str], int], Mapping[str, T]],
        of_months: Callable[[Warehouse, Sequence[Key], Mapping[int, int]], Mapping[Key, T]],
    ) -> Ask[T]:
        """Use ``query`` if all keys are of one month, as they usually are, and ``of_months`` otherwise."""

        async def ask(keys: Sequence[Key], flagged: Mapping[int, int]) -> Mapping[Key, T]:
            month = keys[0][0]
            if any(of != month for of, _ in keys):
                return await self.run(of_months, keys, flagged)
            found = await self.run(query, month, [name for _, name in keys], flagged.get(month, 0))
            return {(month, name): one for name, one in found.items()}

        return ask

    def _paced(
        self, ask: Ask[T], *, ttl_s: float = 0, fresh_s: float = math.inf, bytes_max: int = 0
    ) -> CountBatcher[T]:
        async def fetch(keys: Sequence[Key]) -> tuple[Lag, Mapping[Key, T]]:
            lag = await self.lag()
            return lag, await ask(keys, await self._flagged())

        return CountBatcher(
            fetch,
            ttl_s=ttl_s,
            bytes_max=bytes_max,
            monotonic=time.monotonic,
            bounds=BatchBounds(waiting=self.settings.api_counts_waiting_max),
            pitch_s=self.settings.api_pitch_ms / 1000,
            fresh_s=fresh_s,
        )

    def close(self) -> None:
        """Wait for running queries and close every thread's connection."""
        meeting = threading.Barrier(self.settings.api_threads)

        def leave() -> None:
            # Wait for all threads first, or a fast one would run this twice and a slow one never.
            meeting.wait(timeout=self.settings.api_query_timeout_s + 10)
            self.warehouse.close()

        for _ in range(self.settings.api_threads):
            self._threads.submit(leave)
        self._threads.shutdown()


def _tokens(settings: ApiSettings, clock: Clock) -> Tokens | None:
    if settings.token_keys is None:
        return None
    return Tokens(
        settings.token_keys,
        audience=settings.ingest_token_audience,
        clock=clock,
        leeway_s=settings.ingest_token_leeway_s,
    )


def _answers(ttl_ms: int) -> Answers:
    """A cache by query and parameters. Callers choose those, so it is bounded by the size of the answers."""
    return CoalescingCache(
        ttl_s=ttl_ms / 1000,
        monotonic=time.monotonic,
        bytes_max=_LISTS_BYTES,
        weigh=lambda _, cached: _KEY_BYTES + weight_of(cached[1]),
    )


def runner_of(request: Request) -> QueryRunner:
    """The app's ``QueryRunner``. Dependencies call it: as one of theirs it would be solved again for each of them."""
    return cast("QueryRunner", request.app.state.reads)


async def _runner(request: Request) -> QueryRunner:
    return runner_of(request)


Runner = Annotated[QueryRunner, Depends(_runner)]
