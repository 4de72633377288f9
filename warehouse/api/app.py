"""The read API: counts, payouts and health over HTTP. It writes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.runtime.trace_settings import TraceSettings
from ingest.runtime.tracing import traces_from
from warehouse.api import auth, member_auth, problems
from warehouse.api.counter_cache import CounterCache
from warehouse.api.cross_origin import CrossOrigin
from warehouse.api.direct_routes import DirectRoutes
from warehouse.api.live_board import Board
from warehouse.api.live_poller import LivePoller
from warehouse.api.metrics import ApiMetrics
from warehouse.api.parameters import known_parameters
from warehouse.api.query_runner import QueryRunner
from warehouse.api.replica_monitor import ReplicaMonitor
from warehouse.api.request_guard import RequestGuard
from warehouse.api.routes import (
    count_pages,
    counters,
    counts,
    exports,
    finance,
    health,
    lag,
    lists,
    live,
    me,
    months,
    my_pages,
    pages,
    provisional,
    quarantine,
    receipts,
    series,
    services,
    sign_in,
    verify,
)
from warehouse.api.settings import ApiSettings
from warehouse.api.verifier import Verifier
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.topology import masked

log = structlog.get_logger()

DESCRIPTION = """
Live counts of flattrs and the payouts of closed months.

Every count comes with `as_of`, the moment up to which every accepted click is included, and `lag`, how far the
pipeline is behind. Months are calendar months in UTC. Errors are problem details (RFC 9457) with a stable `reason`.
"""


#: How callers identify themselves.
_SCHEMES: Final = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `flk_...`, from `flattr keys issue`. `x-role` says which role a route needs; where "
        "`x-may-be-public` is true, an operator may serve it without a key.",
    },
    "memberToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The member's token, as it is sent with clicks.",
    },
}
_ROUTERS: Final = (
    counts, counters, receipts, lists, series, exports, provisional, me, months, finance, quarantine, live, lag, health,
    services,
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
    monitor = ReplicaMonitor(reads.warehouse.topology, reads.metrics.replicas)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"warehouse"})
        log.info("api starts", warehouse=masked(reads.warehouse.url), **changed)
        tasks = [asyncio.create_task(task) for task in (LivePoller(reads, board).run(), monitor.run())]
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
        servers=[{"url": "/", "description": "where this document is from"}],
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # a route of ours, so that it refuses unknown parameters as all do
        # Its spans would contain URLs, which name members, and every request would check whether it is configured.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        dependencies=[Depends(known_parameters)],
    )
    app.state.reads = reads
    app.state.board = board
    app.state.verifier = verifier
    problems.install(app)
    for part in _ROUTERS:
        _name_roles(part.router)
        app.include_router(part.router)
    _describe(app)
    sign_in.install(app)
    for pages_of in (count_pages, my_pages, pages, sign_in, verify):
        app.include_router(pages_of.router)
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
        fresh_s=reads.settings.api_counters_fresh_ms / 1000,
        busy=lambda: reads.counters.busy,
        bytes_max=reads.settings.api_counters_kept_bytes,
        monotonic=time.monotonic,
    )
    app.add_middleware(RequestGuard)
    app.add_middleware(CrossOrigin, guarded=reads.keys is not None)
    app.add_middleware(Measured, metrics=reads.metrics)


def _name_roles(router: APIRouter) -> None:
    """State in the OpenAPI document which role each route needs."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.openapi_extra = _stated_need(route)


def _stated_need(route: APIRoute) -> dict[str, Any]:
    need = auth.need_of(route)
    if need is not None:
        return {"x-role": need.role, "x-may-be-public": need.public, "security": [{"apiKey": []}]}
    if any(one.call is member_auth.member_of for one in route.dependant.dependencies):
        return {"x-role": "member", "security": [{"memberToken": []}]}
    return {"x-role": "public", "security": []}


def _describe(app: FastAPI) -> None:
    """Add to the OpenAPI document how a caller identifies itself."""
    generated = app.openapi

    def described() -> dict[str, Any]:
        document = generated()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        return document

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


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
