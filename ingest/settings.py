"""Settings of ingest: frozen, from the environment, each with its default's reason."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from ingest.runtime.client_address import Networks
from ingest.runtime.kafka_settings import BrokerSettings


class IngestSettings(BrokerSettings):
    """How ingest listens, whom it believes, and how it reaches the broker.

    Names without a prefix of their own are shared by every service: FLATTR_BROKER and so on.
    """

    model_config = SettingsConfigDict(env_prefix="FLATTR_INGEST_")

    clock: str = Field(
        default="system",
        validation_alias="FLATTR_CLOCK",
        description="system, +SECONDS, -SECONDS, or file:PATH (ingest/runtime/clock.py).",
    )
    token_keys: Path = Field(
        default=Path(".flattr/token-keys.json"),
        validation_alias="FLATTR_TOKEN_KEYS",
        description="File of the keys of member tokens; `flattr token keygen` adds one. Read anew when it changes.",
    )
    token_audience: str = Field(
        default="flattr",
        description="The `aud` that a token must carry: a token for another service opens nothing here.",
    )

    token_leeway_s: float = Field(
        default=60,
        ge=0,
        le=600,
        description="So far ahead may the clock be of who issues tokens (`nbf`, a pixel token's `iat`).",
    )
    pixel_token_max_s: float = Field(
        default=3600,
        gt=0,
        description="Longest life of a pixel token, from `iat` to `exp`: it stands in an address, which logs keep.",
    )
    failures_per_min: float = Field(
        default=120,
        ge=0,
        description="So many requests a minute without a valid token are looked at for one address, as many at once; "
        "beyond it they are 429. A valid token passes all the same. 0 for no limit.",
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=8001, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that share the port, one core each. Each has a spool slot of its own; rate limits "
        "hold for all of them together.",
    )
    linger_ms: float = Field(
        default=3,
        ge=0,
        description="How long the first click of a block waits for company: longer makes fewer, larger records.",
    )
    idempotence: bool = Field(
        default=True,
        description="Kafka's idempotent producer. Off only for the embedded broker, which lacks InitProducerId.",
    )
    produce_timeout_s: float = Field(
        default=5,
        gt=0,
        description="A block that the broker has not acknowledged by then counts as failed: its clicks are answered "
        "503 and the producer is replaced, since aiokafka itself would retry for ever.",
    )
    queue_max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Clicks waiting for the broker, in memory; beyond it the answer is 503. Some 250,000 clicks.",
    )
    spool: Path | None = Field(
        default=None,
        description="Folder that takes clicks while the broker is away, so that they are answered 202; a local disk "
        "that outlives the process. Unset: no spool, the answer is then 503.",
    )
    spool_max_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most bytes in the spool of one worker, some 4 million clicks; when it is full the answer is 503.",
    )
    spool_segment_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=4096,
        description="Length of a segment of the spool: so much is sent twice, harmlessly, after a crash in its replay.",
    )
    spool_fsync: bool = Field(
        default=True,
        description="Wait for the disk before answering: survives a power cut. Off, it survives kill -9 only.",
    )
    body_max_bytes: int = Field(
        default=512 * 1024,
        ge=1024,
        le=512 * 1024,
        description="Longest request body: it becomes part of one Kafka record, which holds 1 MB by default.",
    )
    batch_max_clicks: int = Field(default=1000, ge=1, le=1000, description="Most clicks in one request.")
    body_timeout_s: float = Field(
        default=10,
        gt=0,
        description="A body that has not arrived by then is answered 408: slow senders hold no connection for ever.",
    )
    drain_timeout_s: float = Field(
        default=10,
        gt=0,
        description="After SIGTERM, requests under way get this long to be answered.",
    )
    header_max_bytes: int = Field(
        default=16 * 1024, ge=1024, description="Longest request head: beyond it the connection is closed with 431."
    )
    head_timeout_s: float = Field(
        default=10, gt=0, description="A request head that is not whole by then is answered 408, however it dribbles."
    )
    keep_alive_s: float = Field(
        default=30, gt=0, description="An idle connection is closed then: longer than a reader's next click."
    )
    write_timeout_s: float = Field(
        default=20,
        gt=0,
        description="Who takes nothing of an answer that waits, for so long, is cut off. 16 kB of them may wait; "
        "before they are taken, nothing more is read.",
    )
    connections_max: int = Field(
        default=2048,
        ge=2,
        description="Most connections of one process. Beyond it the idle and the slow ones are closed; if there are "
        "none, the new one is answered 503. Each costs some 10 kB.",
    )
    bodies_max_bytes: int = Field(
        default=24 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most bytes of unfinished and of unanswered requests in one process. Beyond it unfinished "
        "ones are answered 503, what held most for longest first; if there are none, the new one is.",
    )
    address_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="So much of the connections and of the bodies' bytes one address may hold, a /64 of IPv6 being "
        "one. 1 behind a proxy that is not in FLATTR_TRUSTED_PROXIES.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        validation_alias="FLATTR_TRUSTED_PROXIES",
        description="Networks of reverse proxies, as 10.0.0.0/8,192.0.2.7: they are believed when X-Forwarded-For "
        "names the client. They have to set or extend that header. Unset: the address is the peer's.",
    )
    member_clicks_per_s: float = Field(
        default=100,
        ge=0,
        description="Most clicks a second of one member, on average; 0 for no limit. Far above a person, far below "
        "what would starve the others.",
    )
    member_burst_clicks: int = Field(
        default=2000, ge=1, description="So many of one member's clicks may come at once: two full batches."
    )
    sites_file: Path | None = Field(
        default=None,
        description="JSON object, site key -> site_id, origins, clicks_per_s: only these sites' pages may send. "
        "Read anew when it changes. Unset: any page may, with a token in header or body.",
    )
    gateway_secret: SecretStr | None = Field(
        default=None,
        description="Trust a gateway that has authenticated the member itself: it sends this secret in "
        "X-Flattr-Gateway and the member in X-Flattr-Member. Unset: no such trust.",
    )
    rejected_per_s: float = Field(
        default=200,
        ge=0,
        description="Most records a second on the topic of rejected input; what is beyond is counted, not kept, "
        "so that a flood of rubbish does not become a flood of storage.",
    )
    rejected_mb_a_day: float = Field(
        default=1000,
        ge=1,
        description="Most MB a day that are kept of what callers with a valid token sent and was refused.",
    )
    rejected_member_mb_a_day: float = Field(
        default=20, ge=1, description="One member's share of it, so that nobody uses up what is everybody's."
    )
    rejected_samples_per_min: float = Field(
        default=6,
        ge=0,
        description="Of what callers without a valid token sent, so many samples a minute are kept, of 256 bytes each.",
    )
    rejected_samples_mb_a_day: float = Field(
        default=10, ge=1, description="Most MB a day of those samples. It is a budget of its own."
    )
    rejected_raw_max_bytes: int = Field(
        default=16 * 1024,
        ge=0,
        le=128 * 1024,
        description="So much of a refused input is kept; a click with every field at its longest is below it.",
    )
    aliases_file: Path | None = Field(
        default=None,
        description="JSON object of addresses that moved, old to new or to {to, from: a month}: their things keep one "
        "counter. Read anew when it changes; what it then says without a month counts from the next one on.",
    )

    @model_validator(mode="after")
    def _burst_holds_a_batch(self) -> Self:
        if self.member_clicks_per_s > 0 and self.member_burst_clicks < self.batch_max_clicks:
            raise ValueError("FLATTR_INGEST_MEMBER_BURST_CLICKS must hold a batch of FLATTR_INGEST_BATCH_MAX_CLICKS")
        return self

    @model_validator(mode="after")
    def _gateway_secret_is_one(self) -> Self:
        if self.gateway_secret is not None and len(self.gateway_secret.get_secret_value()) < 16:
            raise ValueError("FLATTR_INGEST_GATEWAY_SECRET needs at least 16 characters")
        return self
