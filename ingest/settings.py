"""Settings of ingest, from the environment; each description gives the reason for its default."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from ingest.runtime.address_settings import AddressSettings
from ingest.runtime.clock import ClockSetting
from ingest.runtime.host_port import Host
from ingest.runtime.kafka_settings import BrokerSettings


class IngestSettings(BrokerSettings, AddressSettings):
    """How ingest listens, whom it trusts, and how it reaches the broker.

    Settings without the prefix FLATTR_INGEST_, such as FLATTR_BROKER, are shared by every service.
    """

    model_config = SettingsConfigDict(env_prefix="FLATTR_INGEST_")

    clock: ClockSetting = Field(
        default="system",
        validation_alias="FLATTR_CLOCK",
        description="system, +SECONDS, -SECONDS, or file:PATH (ingest/runtime/clock.py).",
    )
    token_keys: Path = Field(
        default=Path(".flattr/token-keys.json"),
        validation_alias="FLATTR_TOKEN_KEYS",
        description="File of keys for member tokens; `flattr token keygen` adds one. Reloaded when it changes.",
    )
    token_audience: str = Field(
        default="flattr",
        min_length=1,
        description="The `aud` that a token must have, so that tokens for other services are not accepted here.",
    )

    token_leeway_s: float = Field(
        default=60,
        ge=0,
        le=600,
        description="How far the token issuer's clock may be ahead of ours (`nbf`, and `iat` of a pixel token).",
    )
    pixel_token_max_s: float = Field(
        default=3600,
        gt=0,
        description="Maximum lifetime of a pixel token, from `iat` to `exp`: it is part of a URL, which gets logged.",
    )
    failures_per_min: float = Field(
        default=120,
        ge=0,
        description="Requests without a valid token allowed per minute (and in a burst) from one address; more are "
        "answered 429. Requests with a valid token are not affected. 0: no limit.",
    )

    host: Host = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=8001, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that share the port, one core each. Each has its own spool slot; rate limits apply "
        "across all of them.",
    )
    idempotence: bool = Field(
        default=True,
        description="Use Kafka's idempotent producer. Off only for the embedded broker, which lacks InitProducerId.",
    )
    produce_timeout_s: float = Field(
        default=5,
        gt=0,
        description="A block not acknowledged in this time has failed: its clicks go to the spool or are answered 503, "
        "and the producer is replaced.",
    )
    queue_max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most bytes of clicks in memory waiting for the broker, about 250,000 clicks; beyond it, 503.",
    )
    spool: Path | None = Field(
        default=None,
        description="Folder that stores clicks while the broker is unavailable, so that they are still answered 202. "
        "It must be on a local disk that outlives the process. Unset: no spool, the answer is 503.",
    )
    spool_max_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="Maximum size of one worker's spool, about 4 million clicks; when it is full, the answer is 503.",
    )
    spool_segment_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=4096,
        description="Size of a spool segment. A crash during replay sends up to this much twice, which is harmless.",
    )
    spool_fsync: bool = Field(
        default=True,
        description="Wait for fsync before answering, to survive a power cut. Without it, clicks survive only kill -9.",
    )
    body_max_bytes: int = Field(
        default=512 * 1024,
        ge=1024,
        le=512 * 1024,
        description="Maximum size of a request body, which goes into one Kafka record of at most 1 MB by default.",
    )
    batch_max_clicks: int = Field(default=1000, ge=1, le=1000, description="Maximum clicks in one request.")
    body_timeout_s: float = Field(
        default=10,
        gt=0,
        description="A body that has not arrived in this time is answered 408: slow senders must not hold connections.",
    )
    drain_timeout_s: float = Field(
        default=10,
        gt=0,
        description="How long requests in flight have to be answered after SIGTERM.",
    )
    header_max_bytes: int = Field(
        default=16 * 1024, ge=1024, description="Maximum size of a request head; beyond it the answer is 431."
    )
    head_timeout_s: float = Field(
        default=10, gt=0, description="A request head that is not complete in this time is answered 408."
    )
    keep_alive_s: float = Field(
        default=30, gt=0, description="How long an idle connection stays open: long enough for a reader's next click."
    )
    write_timeout_s: float = Field(
        default=20,
        gt=0,
        description="A client that reads nothing of a pending answer for this long is disconnected. While more than "
        "16 kB of answers are pending, no further requests are read.",
    )
    connections_max: int = Field(
        default=2048,
        ge=2,
        description="Maximum connections of one process, about 10 kB each. Beyond it idle and slow ones are closed; "
        "if there are none, the new one is answered 503.",
    )
    bodies_max_bytes: int = Field(
        default=24 * 1024 * 1024,
        ge=1024 * 1024,
        description="Maximum bytes of unfinished and unanswered requests in one process. Beyond it unfinished ones "
        "are answered 503, first those that held the most for longest; if there are none, the new one is.",
    )
    member_clicks_per_s: float = Field(
        default=100,
        ge=0,
        description="Maximum average clicks per second of one member: far above a person's, far below what would "
        "starve others. 0: no limit.",
    )
    member_burst_clicks: int = Field(
        default=2000, ge=1, description="Maximum burst of one member's clicks: two full requests."
    )
    sites_file: Path | None = Field(
        default=None,
        description="JSON object, site key -> site_id, origins, clicks_per_s: only these sites' pages may send clicks. "
        "Reloaded when it changes. Unset: any page may, with a token in header or body.",
    )
    gateway_secret: SecretStr | None = Field(
        default=None,
        description="Secret of a trusted gateway that authenticates members itself: it sends the secret in "
        "X-Flattr-Gateway and the member in X-Flattr-Member. Unset: no gateway is trusted.",
    )
    rejected_per_s: float = Field(
        default=200,
        ge=0,
        description="Maximum records per second of refused input; beyond it refusals are counted but not stored, so "
        "that a flood of rubbish does not fill the disk.",
    )
    rejected_mb_a_day: float = Field(
        default=1000,
        ge=1,
        description="Maximum MB per day stored of refused input from callers with a valid token.",
    )
    rejected_member_mb_a_day: float = Field(
        default=20, ge=1, description="One member's maximum share of that, so that nobody uses it up."
    )
    rejected_samples_per_min: float = Field(
        default=6,
        ge=0,
        description="Samples per minute, of 256 bytes each, of refused input from callers without a valid token.",
    )
    rejected_samples_mb_a_day: float = Field(
        default=10, ge=1, description="Maximum MB per day of those samples, as a separate budget."
    )
    rejected_raw_max_bytes: int = Field(
        default=16 * 1024,
        ge=0,
        le=128 * 1024,
        description="How much of a refused input is stored; enough for a click with every field at its longest.",
    )
    aliases_file: Path | None = Field(
        default=None,
        description="JSON object of moved addresses, old to new or to {to, from: a month}: their things keep one "
        "counter. Reloaded when it changes; changes without a month take effect the next month.",
    )

    @model_validator(mode="after")
    def _burst_holds_a_batch(self) -> Self:
        if self.member_clicks_per_s > 0 and self.member_burst_clicks < self.batch_max_clicks:
            raise ValueError("FLATTR_INGEST_MEMBER_BURST_CLICKS must be at least FLATTR_INGEST_BATCH_MAX_CLICKS")
        return self

    @model_validator(mode="after")
    def _gateway_secret_is_one(self) -> Self:
        if self.gateway_secret is not None and len(self.gateway_secret.get_secret_value()) < 16:
            raise ValueError("FLATTR_INGEST_GATEWAY_SECRET needs at least 16 characters")
        return self
