"""The read API: counts, payouts and health over HTTP. It writes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.runtime.trace_settings import TraceSettings
from ingest.runtime.tracing import traces_from
from warehouse.api import auth, problems
from warehouse.api.counter_cache import CounterCache
from warehouse.api.direct_routes import DirectRoutes
from warehouse.api.live_board import Board
from warehouse.api.live_poller import LivePoller
from warehouse.api.metrics import ApiMetrics
from warehouse.api.query_runner import QueryRunner
from warehouse.api.request_guard import RequestGuard
from warehouse.api.routes import (
    counters,
    counts,
    finance,
    health,
    lag,
    lists,
    live,
    months,
    pages,
    provisional,
    quarantine,
    receipts,
    series,
    verify,
)
from warehouse.api.settings import ApiSettings
from warehouse.api.verifier import Verifier
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.client import masked

log = structlog.get_logger()

DESCRIPTION = """
Live counts of flattrs and the payouts of closed months.

Every count comes with `as_of`, the moment up to which every accepted click is included, and `lag`, how far the
pipeline is behind. Months are calendar months in UTC. Errors are problem details (RFC 9457) with a stable `reason`.
"""


_ROUTERS: Final = (
    counts, counters, receipts, lists, series, provisional, months, finance, quarantine, live, lag, health,
)  # fmt: skip


def create_app(
    settings: ApiSettings, rules: CloseSettings | None = None, trace_settings: TraceSettings | None = None
) -> FastAPI:
    """Build the app. It connects on the first query, so it also starts without the warehouse; /ready reports that.

    ``rules`` are those of the month's close, for estimates. They and ``trace_settings`` default to the environment.
    """
    traces = traces_from(trace_settings, "api")
    reads = QueryRunner(settings, rules or CloseSettings(), traces)
    board = Board()
    verifier = Verifier(settings, reads.clock, reads.metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"warehouse"})
        log.info("api starts", warehouse=masked(reads.warehouse.url), **changed)
        tasks = [asyncio.create_task(LivePoller(reads, board).run())]
        if settings.api_verify_always:
            tasks.append(asyncio.create_task(verifier.run()))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.to_thread(reads.close)
        if traces is not None:
            await asyncio.to_thread(traces.close)
        log.info("api stopped")

    app = FastAPI(
        title="Flattr reads",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # Its spans would contain URLs, which name members, and every request would check whether it is configured.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.reads = reads
    app.state.board = board
    app.state.verifier = verifier
    problems.install(app)
    for part in _ROUTERS:
        _name_roles(part.router)
        app.include_router(part.router)
    pages.install(app)
    app.include_router(pages.router)
    app.include_router(verify.router)
    _surround(app, reads)
    if traces is not None:
        from warehouse.api.tracing import TracedRequests

        app.add_middleware(TracedRequests, traces=traces)
    return app


def _surround(app: FastAPI, reads: QueryRunner) -> None:
    """Add the middleware; the last one added sees a request first."""
    app.add_middleware(DirectRoutes, reads=reads, router=counts.router)
    app.add_middleware(
        CounterCache,
        understand=lambda query: counters.understand(reads, query),
        answer=lambda asked, address: counters.answer(reads, asked, address),
        address_of=reads.address_of,
        ttl_s=reads.settings.api_counters_ttl_ms / 1000,
        bytes_max=reads.settings.api_counters_kept_bytes,
        monotonic=time.monotonic,
    )
    app.add_middleware(RequestGuard)
    app.add_middleware(Measured, metrics=reads.metrics)


def _name_roles(router: APIRouter) -> None:
    """State in the OpenAPI document which role each route needs."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.openapi_extra = {"x-role": auth.role_of(route) or "public"}


class Measured:
    """Count answers by route and status. Plain ASGI, because it must not buffer a stream."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through, and record the first message of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's template, never the requested path: that would create unbounded labels.
                route = getattr(scope.get("route"), "path_format", "unknown")
                self._metrics.requests.labels(route, str(message["status"])).inc()
                self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, counted)
