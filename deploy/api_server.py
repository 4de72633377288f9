"""How the read API listens: on the bounded connection that ingest has (ingest/http/connection.py)."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingest.admission.refusal import Refused, problem
from ingest.contract.rejection import Reason
from ingest.http.budgets import Bounds, Budgets
from ingest.http.connection import Connection, server_options
from ingest.runtime.client_address import Networks
from warehouse.api.metrics import ApiMetrics

#: The API takes one form, with a key in it.
_BODY_MAX_BYTES: Final = 64 * 1024
#: A counter may be asked for by the longest address that a thing may have: 2,048 characters, each of twelve bytes.
_HEAD_MAX_BYTES: Final = 40 * 1024
_DRAIN_S: Final = 10


class ApiServerSettings(BaseSettings):
    """What a client may use of the read API's port. Read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_API_", frozen=True, extra="ignore", populate_by_name=True)

    head_timeout_s: float = Field(
        default=10, gt=0, description="A request that is not whole by then is answered 408, however it dribbles."
    )
    keep_alive_s: float = Field(
        default=30, gt=0, description="An idle connection is closed then. A listener of the live stream is not idle."
    )
    write_timeout_s: float = Field(
        default=20,
        gt=0,
        description="Who takes nothing of an answer that waits, for so long, is cut off: a listener, too.",
    )
    connections_max: int = Field(
        default=4096,
        ge=2,
        description="Most connections at a time, those of listeners among them. Beyond it the idle and the slow ones "
        "are closed; if there are none, the new one is answered 503.",
    )
    bodies_max_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most bytes of unfinished requests, and of answers that are not taken. Beyond it the oldest go.",
    )
    address_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="So much of the connections and of the bytes one address may hold, a /64 of IPv6 being one. 1 "
        "behind a proxy that is not in FLATTR_TRUSTED_PROXIES.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        validation_alias="FLATTR_TRUSTED_PROXIES",
        description="Networks of reverse proxies, as 10.0.0.0/8,192.0.2.7: they are believed when X-Forwarded-For "
        "names the client. They have to set or extend that header. Unset: the address is the peer's.",
    )


def bounded(app: FastAPI, settings: ApiServerSettings) -> dict[str, Any]:
    """Give the app its budgets, and say how uvicorn is to behave besides its address."""
    metrics: ApiMetrics = app.state.reads.metrics

    def refused(one: Refused) -> tuple[int, bytes]:
        metrics.refused.labels(one.refusal.reason.value).inc()
        return problem([one.refusal])

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
