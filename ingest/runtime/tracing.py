"""Tracing: the spans of one service, exported to an OTLP endpoint in the background.

Every service has one ``Traces``, or None when tracing is off; OpenTelemetry's SDK is not imported until one is made.
Spans wait in a bounded queue for an export thread. An endpoint that is down or slow costs the spans that do not fit
into the queue, and nothing else.

Requests are sampled at random, and what they become is traced with them: a block links to its requests, and a batch
to its blocks through the ``traceparent`` header of the record. These are links rather than parents, since a block has
many requests and a batch many blocks. Spans contain no member, creator or thing.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from ingest.runtime.trace_settings import TraceSettings

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, SpanKind

#: The record's header, as in W3C Trace Context.
HEADER: Final = "traceparent"
#: The most links of a block or batch; an attribute has the full count.
LINKS_MAX: Final = 100
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_QUEUE_SPANS_MAX: Final = 8192
_EXPORT_SPANS: Final = 512
_EXPORT_EVERY_S: Final = 1.0


def traces_from(settings: TraceSettings | None, part: str) -> Traces | None:
    """Tracing for a service (``ingest``, ``streams``, ``api``); None if no endpoint is set.

    Settings default to those of the environment.
    """
    settings = settings or TraceSettings()
    return None if settings.endpoint is None else Traces(settings, part)


class Traces:
    """Makes spans; ``close`` exports the last ones."""

    def __init__(self, settings: TraceSettings, part: str) -> None:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self._timeout_s = settings.export_timeout_s
        self._ratio = settings.sample_ratio
        exporter = OTLPSpanExporter(
            endpoint=settings.endpoint,
            headers=_pairs(settings.headers.get_secret_value() if settings.headers else ""),
            timeout=settings.export_timeout_s,
            compression=Compression.Gzip,
        )
        # Sampling happens before a span is made, so that unsampled requests cost nothing.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": f"{settings.service}-{part}"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=_QUEUE_SPANS_MAX,
                max_export_batch_size=_EXPORT_SPANS,
                schedule_delay_millis=_EXPORT_EVERY_S * 1000,
                export_timeout_millis=settings.export_timeout_s * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("flattr")

    def sampled(self) -> bool:
        """Decide at random whether to trace a request."""
        return random.random() < self._ratio  # noqa: S311 - not a secret

    def start(  # noqa: PLR0913 - each is a property of the span
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: Span | None = None,
        links: Iterable[SpanContext] = (),
        start_ns: int | None = None,
        attributes: Mapping[str, str | int] | None = None,
    ) -> Span:
        """Start a span, now or at ``start_ns`` (UTC), in a new trace if it has no parent. The caller ends it."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, set_span_in_context

        return self._tracer.start_span(
            name,
            context=Context() if parent is None else set_span_in_context(parent),
            kind=kind,
            links=[Link(context) for context in links],
            start_time=start_ns,
            attributes=attributes,
        )

    def close(self) -> None:
        """Export what is queued. Blocks for up to ``export_timeout_s``: do not call it from an event loop."""
        # The SDK itself would wait half a minute for an endpoint that is down.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(self._timeout_s)


def traceparent(span: Span) -> str:
    """The span's W3C ``traceparent`` header, marked as sampled."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def context_of(text: bytes) -> SpanContext | None:
    """The span context in a ``traceparent`` header from an untrusted sender; None if it is invalid."""
    from opentelemetry.trace import SpanContext, TraceFlags

    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    context = SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(1))
    return context if context.is_valid else None


def failed(span: Span, error: BaseException | str) -> None:
    """Mark the span as failed, with the error's type or a code; its message might name a member."""
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR, error if isinstance(error, str) else type(error).__name__)


def _pairs(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}
