"""Settings of tracing, the same for every service."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from ingest.runtime.base_settings import Settings


class TraceSettings(Settings):
    """Where spans go, and how many. Tracing is off, and OpenTelemetry not imported, unless there is an endpoint."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_TRACES_")

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]+",
        description="OTLP/HTTP endpoint, such as http://127.0.0.1:4318/v1/traces. Unset: no tracing, at no cost.",
    )
    headers: SecretStr | None = Field(
        default=None,
        description="Headers for the endpoint, name=value[,name=value], for instance an API key.",
    )
    sample_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Fraction of requests that are traced. A request's block and batch are traced if the request "
        "is; a request that is not traced costs only a random number.",
    )
    service: str = Field(
        default="flattr",
        min_length=1,
        description="Prefix of the service names: flattr gives flattr-ingest, flattr-streams and flattr-api.",
    )
    export_timeout_s: float = Field(
        default=2,
        gt=0,
        description="Timeout of one export, and how long a stopping service waits for its last one. Spans that the "
        "endpoint does not accept in time are dropped; requests never wait for it.",
    )
