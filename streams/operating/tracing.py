"""Spans of a batch: linked to its blocks, with children for counting and for each insert."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ingest.runtime.tracing import LINKS_MAX, Traces, context_of, failed, traceparent
from streams.source.chunk import joined
from warehouse.storage.client import Warehouse
from warehouse.storage.native_columns import Column

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

    from streams.source.chunk import Chunk

#: Writes columns to a table, as ``Warehouse.insert`` does.
Insert = Callable[[str, dict[str, Column]], object]


def batch_trace(traces: Traces, chunks: Iterable[Chunk]) -> BatchTrace | None:
    """A trace for a batch that contains a traced block, or None."""
    found = (context_of(told) for chunk in chunks for told in joined([chunk.records]).contexts.values())
    blocks = [context for context in found if context is not None]
    return BatchTrace(traces, blocks) if blocks else None


class BatchTrace:
    """The trace of one batch. Its methods are called in order, from changing threads."""

    def __init__(self, traces: Traces, blocks: list[SpanContext]) -> None:
        from opentelemetry.trace import SpanKind

        self._traces = traces
        self._kinds = SpanKind
        self._began_ns = time.time_ns()
        self.span: Span = traces.start(
            "batch",
            SpanKind.CONSUMER,
            links=blocks[:LINKS_MAX],
            start_ns=self._began_ns,
            attributes={"messaging.system": "kafka", "flattr.blocks": len(blocks)},
        )

    def counted(self, clicks: int) -> None:
        """The batch is decoded, deduplicated and counted."""
        self.span.set_attribute("flattr.clicks", clicks)
        self._traces.start("count", self._kinds.INTERNAL, parent=self.span, start_ns=self._began_ns).end()

    def inserting(self, warehouse: Warehouse) -> Insert:
        """An insert function with a span per call; ClickHouse gets the span's context with the query."""

        def insert(table: str, block: dict[str, Column]) -> None:
            span = self._traces.start(
                f"insert {table}",
                self._kinds.CLIENT,
                parent=self.span,
                attributes={"db.system.name": "clickhouse", "db.collection.name": table},
            )
            try:
                rows = warehouse.insert(table, block, traceparent=traceparent(span))
                span.set_attribute("db.response.returned_rows", rows)
            except Exception as error:
                failed(span, error)
                raise
            finally:
                span.end()

        return insert

    def end(self, error: BaseException | str | None = None) -> None:
        """The batch is written, or failed with this error."""
        if error is not None:
            failed(self.span, error)
        self.span.end()
