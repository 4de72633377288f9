"""The beacon and the publisher with spans, used in place of the plain ones when tracing is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanKind

from ingest.admission.request import Request
from ingest.contract.rejection import Reason
from ingest.http.beacon import Beacon, Headers, Reply, Services
from ingest.log.lane import Placed, RequestClicks
from ingest.log.producer import Producer
from ingest.log.publisher import Publisher
from ingest.log.sender import Block, BrokerUnavailable
from ingest.metrics import Metrics
from ingest.runtime.clock import Clock
from ingest.runtime.tracing import HEADER, LINKS_MAX, Traces, context_of, failed, traceparent
from ingest.settings import IngestSettings

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_SERVER_ERROR: Final = 500


class RequestTrace:
    """A request's span, from its last byte to its answer.

    It is also the publisher's callback, so that a block finds the spans of its requests.
    """

    __slots__ = ("_placed", "_reply", "span")

    def __init__(self, span: Span, reply: Reply) -> None:
        self.span = span
        self._reply = reply
        self._placed: Callable[[Placed | Reason], None] | None = None

    def answering(self, placed: Callable[[Placed | Reason], None], clicks: int) -> RequestTrace:
        """Return itself as the publisher's callback for the request's clicks."""
        self._placed = placed
        self.span.set_attribute("flattr.clicks", clicks)
        return self

    def __call__(self, place: Placed | Reason) -> None:
        """Note the publisher's outcome and pass it on."""
        if isinstance(place, Reason):
            self.span.set_attribute("flattr.reason", place.value)
        elif place.partition is None:
            self.span.add_event("kept in the spool")
        if self._placed is not None:
            self._placed(place)

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the answer and end the span."""
        self._reply(status, headers, body)
        self.span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR:
            failed(self.span, str(status))
        self.span.end()


class TracedBeacon(Beacon):
    """A beacon that traces a sample of its requests."""

    def __init__(self, services: Services, traces: Traces) -> None:
        super().__init__(services)
        self._traces = traces
        self._trace: RequestTrace | None = None
        self._submit = self._submit_traced

    def take(self, request: Request, body: bytes, reply: Reply) -> None:
        """Answer a request; a sampled one begins a trace.

        The caller's traceparent becomes a link and does not decide the sampling: on a public endpoint, callers must not
        control what is traced.
        """
        if not self._traces.sampled():
            super().take(request, body, reply)
            return
        caller = context_of(request.header(HEADER.encode()))
        span = self._traces.start(
            f"{request.method} {request.path}",
            SpanKind.SERVER,
            links=[caller] if caller else (),
            attributes={"http.request.method": request.method, "http.route": request.path},
        )
        self._trace = trace = RequestTrace(span, reply)
        try:
            super().take(request, body, trace.reply)
        finally:
            self._trace = None

    def _submit_traced(self, chunk: RequestClicks) -> None:
        # `take` never awaits before this call, so the trace is this request's.
        if self._trace is not None:
            chunk.answer = self._trace.answering(chunk.answer, chunk.clicks)
        self._publisher.submit(chunk)


class TracedPublisher(Publisher):
    """A publisher that traces a block when one of its requests is traced."""

    def __init__(self, settings: IngestSettings, clock: Clock, metrics: Metrics, traces: Traces) -> None:
        super().__init__(settings, clock, metrics)
        self._traces = traces

    def _block(self, partition: int, chunks: list[RequestClicks], producer: Producer) -> Block:
        block = super()._block(partition, chunks, producer)
        requests = [chunk.answer.span for chunk in chunks if isinstance(chunk.answer, RequestTrace)]
        if not requests:
            return block
        span = self._traces.start(
            f"send {self._settings.topic_clicks}",
            SpanKind.PRODUCER,
            links=[request.get_span_context() for request in requests[:LINKS_MAX]],
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.name": self._settings.topic_clicks,
                "messaging.destination.partition.id": str(partition),
                "messaging.batch.message_count": sum(chunk.clicks for chunk in chunks),
                "flattr.requests": len(chunks),
            },
        )
        for request in requests:
            # Link both ways, so that the request's trace leads to its block.
            request.add_link(span.get_span_context())
        if span.is_recording():
            block.headers = [(HEADER, traceparent(span).encode())]
        placed, block_failed = block.placed, block.failed

        def traced_placed(offset: int) -> None:
            span.set_attribute("messaging.kafka.offset", offset)
            span.end()
            placed(offset)

        def traced_failed(error: BrokerUnavailable) -> None:
            failed(span, error)
            span.end()
            block_failed(error)

        block.placed, block.failed = traced_placed, traced_failed
        return block
