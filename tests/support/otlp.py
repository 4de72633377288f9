"""A tracing back end: takes OTLP over HTTP as any collector does, and keeps what it took."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from deploy.stack.embedded import HOST


@dataclass(frozen=True)
class Seen:
    """One span, its ids in hex."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: frozenset[tuple[str, str]]
    attributes: dict[str, Any]
    text: str

    @property
    def ids(self) -> tuple[str, str]:
        """What a link to it says."""
        return self.trace_id, self.span_id


class Backend:
    """The spans that came in."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: dict[str, str] = {}
        self._spans: list[Seen] = []
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """Read one export."""
        message = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            for group in message.resource_spans:
                service = _values(group.resource.attributes)["service.name"]
                self._spans += [_seen(service, span) for scope in group.scope_spans for span in scope.spans]

    def spans(self, service: str, name: str = "") -> list[Seen]:
        """Spans of a service whose name begins so."""
        with self._lock:
            return [span for span in self._spans if span.service == service and span.name.startswith(name)]

    @property
    def text(self) -> str:
        """Everything, as text."""
        with self._lock:
            return "\n".join(span.text for span in self._spans)


def _seen(service: str, span: Any) -> Seen:
    links = frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links)
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    return Seen(service, span.name, *ids, links, _values(span.attributes), str(span))


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def backend() -> Iterator[Backend]:
    """A back end on a free port, until the block ends."""
    retained = Backend()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            retained.headers = {name.lower(): value for name, value in self.headers.items()}
            retained.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    retained.url = f"http://{HOST}:{server.server_port}/v1/traces"
    try:
        yield retained
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
