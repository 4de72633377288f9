"""The ingest service: a raw route for the beacon, FastAPI for everything that is not hot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Receive, Scope, Send

from ingest.admission.caller import Admission
from ingest.admission.rate_limit import RateLimits
from ingest.admission.validate import Validator
from ingest.http.beacon import PATHS, Beacon, Services
from ingest.http.budgets import Bounds, Budgets
from ingest.http.openapi import describe_beacon
from ingest.http.refused_input import RefusedInput
from ingest.http.static_files import add_pages
from ingest.log.publisher import Publisher
from ingest.log.sender import REQUEST_MAX_BYTES
from ingest.metrics import METRICS_FOLDER, Metrics
from ingest.runtime.aliases import Aliases
from ingest.runtime.clock import Clock, clock_from
from ingest.runtime.tokens import Tokens
from ingest.runtime.trace_settings import TraceSettings
from ingest.runtime.tracing import Traces, traces_from
from ingest.settings import IngestSettings

_log = structlog.get_logger(__name__)


class IngestApp(FastAPI):
    """A FastAPI app whose hot paths bypass middleware and routing."""

    beacon: Beacon

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route one connection."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"] in PATHS:
            await self.beacon.asgi(scope, receive, send)
        else:
            # HEAD is routed as GET. The scope is copied, for the server must still see HEAD and send no body.
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await super().__call__({**scope, "method": method}, receive, send)


def create_app(settings: IngestSettings, trace_settings: TraceSettings | None = None) -> IngestApp:
    """Build the service. Raises ``FileError`` now, and ``TopicMissing`` on startup.

    ``trace_settings`` default to those of the environment.
    """
    clock = clock_from(settings.clock)
    metrics = Metrics()
    aliases = Aliases(settings.aliases_file, clock)
    tokens = Tokens(
        settings.token_keys,
        audience=settings.token_audience,
        clock=clock,
        leeway_s=settings.token_leeway_s,
        pixel_max_s=settings.pixel_token_max_s,
    )
    folder = os.environ.get(METRICS_FOLDER)
    limits = RateLimits(Path(folder) if folder else None)
    traces = traces_from(trace_settings, "ingest")
    publisher = _publisher(settings, clock, metrics, traces)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _log.info("ingest starts", settings=settings.model_dump(mode="json"))
        await publisher.start()
        sharing = asyncio.create_task(_share(metrics))
        try:
            yield
        finally:
            sharing.cancel()
            await publisher.drain()
            metrics.share()
            if traces is not None:
                await asyncio.to_thread(traces.close)
            _log.info("ingest drained")

    app = IngestApp(title="Flattr ingest", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    services = Services(
        settings=settings,
        publisher=publisher,
        admission=Admission(settings, tokens, limits),
        validator=Validator(aliases, batch_max_clicks=settings.batch_max_clicks),
        clock=clock,
        metrics=metrics,
        retained=RefusedInput(settings, limits, metrics, clock, publisher.reject),
    )
    app.beacon = _beacon(services, traces)
    # A request to Kafka is copied several times on its way. Copies in memory that is new each time cost a third of the
    # processor time of a worker that gets a hundred clicks in a request.
    app.state.budgets = budgets = Budgets(_bounds(settings), app.beacon.refuse_head, returned_bytes=REQUEST_MAX_BYTES)
    metrics.connections_now = budgets.now
    describe_beacon(app)
    add_pages(app)
    _add_operating_routes(app, publisher, metrics)
    return app


def _bounds(settings: IngestSettings) -> Bounds:
    return Bounds(
        head_max_bytes=settings.header_max_bytes,
        head_timeout_s=settings.head_timeout_s,
        body_max_bytes=settings.body_max_bytes,
        body_timeout_s=settings.body_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        write_timeout_s=settings.write_timeout_s,
        connections_max=settings.connections_max,
        bodies_max_bytes=settings.bodies_max_bytes,
        address_share=settings.address_share,
        trusted_proxies=settings.trusted_proxies,
    )


def _publisher(settings: IngestSettings, clock: Clock, metrics: Metrics, traces: Traces | None) -> Publisher:
    if traces is None:
        return Publisher(settings, clock, metrics)
    from ingest.tracing import TracedPublisher

    return TracedPublisher(settings, clock, metrics, traces)


def _beacon(services: Services, traces: Traces | None) -> Beacon:
    if traces is None:
        return Beacon(services)
    from ingest.tracing import TracedBeacon

    return TracedBeacon(services, traces)


async def _share(metrics: Metrics) -> None:
    while True:
        metrics.share()
        await asyncio.sleep(1)


def _add_operating_routes(app: FastAPI, publisher: Publisher, metrics: Metrics) -> None:
    @app.get("/live", tags=["operating"])
    async def live() -> dict[str, str]:
        """Liveness: answers while the process runs, and checks nothing else."""
        return {"status": "live"}

    @app.get("/ready", tags=["operating"], responses={503: {"description": "A dependency is missing."}})
    async def ready(response: Response) -> dict[str, str | dict[str, str]]:
        """Readiness: whether clicks can be accepted, with the state of each dependency."""
        if not publisher.ready:
            response.status_code = 503
        return {"status": "ready" if publisher.ready else "not ready", "parts": publisher.state()}

    @app.get("/metrics", tags=["operating"], response_class=Response)
    async def read_metrics() -> Response:
        """Prometheus metrics; ingest/metrics.py lists them."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
