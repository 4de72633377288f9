"""Serves the read API on the same bounded connections as ingest (ingest/http/connection.py)."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from ingest.contract.rejection import Reason
from ingest.http.budgets import Bounds, Budgets
from ingest.http.connection import Connection, server_options
from ingest.runtime.refusal import Refused, problem
from warehouse.api.metrics import ApiMetrics
from warehouse.api.settings import ApiServerSettings

#: The API accepts only one form, which contains a key.
_BODY_MAX_BYTES: Final = 64 * 1024
#: Enough for a counter of a thing with the longest address: 2,048 characters of up to twelve bytes each.
_HEAD_MAX_BYTES: Final = 40 * 1024
_DRAIN_S: Final = 10


def bounded(app: FastAPI, settings: ApiServerSettings) -> dict[str, Any]:
    """Give the app its budgets; returns options for ``uvicorn.Config``, except the address."""
    metrics: ApiMetrics = app.state.reads.metrics

    def refused(error: Refused) -> tuple[int, bytes]:
        metrics.refused.labels(error.refusal.reason.value).inc()
        return problem([error.refusal])

    for reason in (Reason.HTTP_MALFORMED, Reason.HEAD_TOO_LARGE, Reason.HEAD_TIMEOUT, Reason.BODY_TOO_LARGE,
                   Reason.BODY_TIMEOUT, Reason.BODIES_FULL, Reason.CONNECTIONS_FULL):  # fmt: skip
        metrics.refused.labels(reason.value)
    bounds = Bounds(
        head_max_bytes=_HEAD_MAX_BYTES,
        head_timeout_s=settings.head_timeout_s,
        body_max_bytes=_BODY_MAX_BYTES,
        body_timeout_s=settings.head_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        write_timeout_s=settings.write_timeout_s,
        connections_max=settings.connections_max,
        bodies_max_bytes=settings.bodies_max_bytes,
        address_share=settings.address_share,
        trusted_proxies=settings.trusted_proxies,
    )
    budgets = app.state.budgets = Budgets(bounds, refused)
    metrics.connections.set_function(lambda: len(budgets.clients))
    metrics.held_bytes.set_function(lambda: budgets.bytes)
    return server_options(Connection, drain_s=_DRAIN_S)
