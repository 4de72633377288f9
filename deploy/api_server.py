"""Serves the read API on the same bounded connections as ingest (ingest/http/connection.py)."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingest.contract.rejection import Reason
from ingest.http.budgets import Bounds, Budgets
from ingest.http.connection import Connection, server_options
from ingest.runtime.client_address import Networks
from ingest.runtime.refusal import Refused, problem
from warehouse.api.metrics import ApiMetrics

#: The API accepts only one form, which contains a key.
_BODY_MAX_BYTES: Final = 64 * 1024
#: Enough for a counter of a thing with the longest address: 2,048 characters of up to twelve bytes each.
_HEAD_MAX_BYTES: Final = 40 * 1024
_DRAIN_S: Final = 10


class ApiServerSettings(BaseSettings):
    """The bounds of the read API's port; read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_API_", frozen=True, extra="ignore", populate_by_name=True)

    head_timeout_s: float = Field(
        default=10, gt=0, description="A request that is not complete in this time is answered 408."
    )
    keep_alive_s: float = Field(
        default=30,
        gt=0,
        description="How long an idle connection stays open. A subscriber of the live stream is not idle.",
    )
    write_timeout_s: float = Field(
        default=20,
        gt=0,
        description="A client (or subscriber) that reads nothing of a pending answer for this long is disconnected.",
    )
    connections_max: int = Field(
        default=4096,
        ge=2,
        description="Maximum connections, including those of subscribers. Beyond it idle and slow ones are closed; if "
        "there are none, the new one is answered 503.",
    )
    bodies_max_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024 * 1024,
        description="Maximum bytes of unfinished requests and of unread answers. Beyond it the oldest are closed.",
    )
    address_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Fraction of the connections and of the bytes that one address (or IPv6 /64) may hold. Set it to 1 "
        "behind a proxy that is not in FLATTR_TRUSTED_PROXIES.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        validation_alias="FLATTR_TRUSTED_PROXIES",
        description="Networks of reverse proxies, such as 10.0.0.0/8,192.0.2.7, whose X-Forwarded-For is trusted; "
        "they must set or extend that header. Unset: the client's address is the peer's.",
    )


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
