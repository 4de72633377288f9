"""Traces: spans of one service, handed to an OTLP endpoint in the background.

Every service that makes spans has one ``Traces``, or None when they are off; nothing of OpenTelemetry's SDK is
imported until one is made. Spans wait in a bounded queue for a thread of their own. An endpoint that is away or slow
costs the spans that find no room, and nothing else.

A request is drawn by lot (``sampled``). What it becomes is traced when it is: a block links to its requests,
a batch to its blocks, over the ``traceparent`` in the headers of the record. Links, not parents, since a block has
many requests and a batch many blocks. Spans name no member, no creator and no thing.
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

#: The record's header, as W3C spells it.
HEADER: Final = "traceparent"
#: A block's links, and a batch's: what is beyond is counted in an attribute.
LINKS_MAX: Final = 100
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_QUEUE_SPANS_MAX: Final = 8192
_EXPORT_SPANS: Final = 512
_EXPORT_EVERY_S: Final = 1.0


def traces_from(settings: TraceSettings | None, part: str) -> Traces | None:
    """The traces of a part (``ingest``, ``streams``, ``api``); None when there is no endpoint for them.

    Settings come from the environment when they are not given.
    """
    settings = settings or TraceSettings()
    return None if settings.endpoint is None else Traces(settings, part)


class Traces:
    """Makes spans; ``close`` hands over the last ones."""

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
        # What is to be traced is decided before a span is made, so that what is not costs nothing.
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
        """Draw the lot for a request."""
        return random.random() < self._ratio  # noqa: S311 - a lot, no secret

    def start(  # noqa: PLR0913 - what a span has, named
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: Span | None = None,
        links: Iterable[SpanContext] = (),
        start_ns: int | None = None,
        attributes: Mapping[str, str | int] | None = None,
    ) -> Span:
        """A span that has begun, now or at ``start_ns`` (UTC); the caller ends it. Without a parent, a new trace."""
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
        """Hand over what waits, for ``export_timeout_s`` at most. Blocks: not for an event loop."""
        # The SDK itself would wait half a minute for an endpoint that is away.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(self._timeout_s)


def traceparent(span: Span) -> str:
    """What names the span to others: W3C's header, sampled."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def context_of(text: bytes) -> SpanContext | None:
    """The span that a ``traceparent`` names; None when it is none. Whatever somebody sent may stand there."""
    from opentelemetry.trace import SpanContext, TraceFlags

    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    context = SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(1))
    return context if context.is_valid else None


def failed(span: Span, error: BaseException | str) -> None:
    """Mark the span as failed. The reason is the error's kind or a code: a message may name a member."""
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR, error if isinstance(error, str) else type(error).__name__)


def _pairs(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}
