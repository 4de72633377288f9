"""Spans of the read API: one for each sampled request, with a child for each query that it waits for."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from opentelemetry.trace import SpanKind, get_current_span, use_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.runtime.tracing import HEADER, Traces, context_of, failed

T = TypeVar("T")
_SERVER_ERROR: Final = 500
#: Not traced: probes come every few seconds.
_PROBES: Final = frozenset({"/live", "/ready", "/metrics"})


class TracedRequests:
    """Traces requests; a span ends with the answer's last byte. Plain ASGI, because it must not buffer a stream."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace a sampled request. Its span is named by route, because a URL may name a member."""
        if scope["type"] != "http" or scope["path"] in _PROBES or not self._traces.sampled():
            await self._app(scope, receive, send)
            return
        caller = context_of(dict(scope["headers"]).get(HEADER.encode(), b""))
        span = self._traces.start(
            scope["method"],
            SpanKind.SERVER,
            links=[caller] if caller else (),
            attributes={"http.request.method": scope["method"]},
        )

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path_format", "unknown")
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes({"http.route": route, "http.response.status_code": message["status"]})
                if message["status"] >= _SERVER_ERROR:
                    failed(span, str(message["status"]))
            await send(message)

        with use_span(span, end_on_exit=True, record_exception=False):
            await self._app(scope, receive, traced)


async def traced_query(traces: Traces, name: str, answer: Awaitable[T]) -> T:
    """Await a query in a span named after it, if the request is traced."""
    request = get_current_span()
    if not request.is_recording():
        return await answer
    span = traces.start(f"query {name}", SpanKind.CLIENT, parent=request, attributes={"db.system.name": "clickhouse"})
    try:
        return await answer
    except Exception as error:
        failed(span, error)
        raise
    finally:
        span.end()
