"""Settings of traces, the same for every service."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class TraceSettings(BaseSettings):
    """Where spans go, and how many. Off unless there is an endpoint: nothing of OpenTelemetry is imported then."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_TRACES_", frozen=True, extra="ignore")

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]+",
        description="OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces. Unset: no traces, at no cost.",
    )
    headers: SecretStr | None = Field(
        default=None,
        description="Headers for the endpoint, name=value[,name=value], where it wants a key.",
    )
    sample_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of requests that are traced. The rest costs a random number: what a request becomes, its "
        "block and its batch, is traced when the request is.",
    )
    service: str = Field(
        default="flattr",
        min_length=1,
        description="Start of the services' names: flattr gives flattr-ingest, flattr-streams and flattr-api.",
    )
    export_timeout_s: float = Field(
        default=2,
        gt=0,
        description="How long one export may take, and how long a leaving service waits for its last. Spans that the "
        "endpoint does not take in time are dropped; nothing waits for them.",
    )
