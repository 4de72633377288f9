"""Settings of the read API."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from pydantic import Field, HttpUrl, model_validator
from pydantic_settings import SettingsConfigDict

from ingest.runtime.address_settings import AddressSettings
from ingest.runtime.clock import ClockSetting
from ingest.runtime.host_port import Host
from warehouse.storage.settings import WarehouseSettings

_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")


class ApiSettings(WarehouseSettings):
    """What `flattr api` reads from the environment, frozen."""

    clock: ClockSetting = Field(
        default="system",
        description="The service's clock: system, +SECONDS, -SECONDS or file:PATH. The demo and the tests shift it.",
    )
    log_epoch: int = Field(
        default=0, ge=0, lt=256, description="The log epoch of the topic's offsets; the same as for streams."
    )
    api_host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on. Only this machine by default; set it to face a network.",
    )
    api_port: int = Field(default=8003, ge=0, le=65535, description="Port to listen on.")
    api_keys: Path | None = Field(
        default=None,
        description="File of API keys, written by `flattr keys issue`. Without it everything is open, which is allowed "
        "only on this machine or with FLATTR_API_OPEN=true.",
    )
    api_public: bool = Field(
        default=False,
        description="Serve counts, lists, series and pages of creators and things without a key: never members, never "
        "money.",
    )
    api_open: bool = Field(
        default=False,
        description="Serve other machines without keys: for use behind a gateway that authenticates.",
    )
    api_session_secret: Path | None = Field(
        default=None,
        description="File of at least 32 random bytes that signs the pages' sessions and the streams' tokens; all "
        "processes behind one address need the same. Unset: each start makes its own, so sessions end with it.",
    )
    api_session_s: float = Field(
        default=4 * 3600,
        ge=60,
        le=24 * 3600,
        description="How long a session of the pages lasts, in seconds; a member's not longer than the token it began "
        "with.",
    )
    api_ingest: HttpUrl | None = Field(
        default=None,
        description="Address of ingest for the API, such as http://ingest:8001: there the member's page sends the "
        "clicks with which members change and end subscriptions, with their own tokens. Unset: the page lists them.",
    )
    token_keys: Path | None = Field(
        default=None,
        description="File of keys for member tokens; `flattr token keygen` adds one. Reloaded when it changes. The "
        "read API needs public keys only (EdDSA without `d`); without the file it answers no member.",
    )
    ingest_token_audience: str = Field(
        default="flattr",
        min_length=1,
        description="The `aud` that a token must have, so that tokens for other services are not accepted here.",
    )
    ingest_token_leeway_s: float = Field(
        default=60,
        ge=0,
        le=600,
        description="How far the token issuer's clock may be ahead of ours (`nbf`, and `iat` of a pixel token).",
    )
    ingest_aliases_file: Path | None = Field(
        default=None,
        description="The alias table of ingest, so that a counter requested by address finds the same thing.",
    )
    api_threads: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Warehouse calls at a time. Each takes a thread and a connection, since the driver blocks. "
        "Two per core of the warehouse keep it busy; more only queue inside it.",
    )
    api_queue_max: int = Field(
        default=256,
        ge=1,
        description="Calls that may wait for a thread; further ones get a 503 at once instead of waiting too long.",
    )
    api_query_timeout_s: float = Field(
        default=10,
        gt=0,
        description="Timeout of one query, in seconds. Dashboards retry; a slow query must not occupy a thread.",
    )
    api_lag_ttl_ms: int = Field(
        default=500,
        ge=0,
        description="How long the pipeline's lag is cached, in ms; it is refreshed after half that time. Since it is "
        "read before the count that it accompanies, an older lag is still correct, only less fresh.",
    )
    api_pitch_ms: int = Field(
        default=40,
        ge=0,
        description="Time between two queries for counts of one kind, in ms, at most: after a query the next one waits "
        "as long as that took, or until the pitch is over if that is sooner; requests in between are batched into it. "
        "A lone request does not wait.",
    )
    api_counters_ttl_ms: int = Field(
        default=1000,
        ge=0,
        description="How long a button counter is cached, in ms, and likewise the whole answer to a page. This "
        "determines the number of queries, not the number of page views.",
    )
    api_counters_fresh_ms: int = Field(
        default=250,
        ge=0,
        description="The same while there was no query for counters within that time: a press is seen "
        "sooner on a quiet site, for at most four more queries a second.",
    )
    api_counters_kept_bytes: int = Field(
        default=16 << 20,
        ge=1 << 16,
        description="Memory for cached button counters, and as much again for whole answers, in bytes; the oldest are "
        "evicted first. A counter takes about 600 bytes, so the default holds all that can be queried within their "
        "lifetime.",
    )
    api_counts_waiting_max: int = Field(
        default=8000,
        ge=400,
        description="Counts of one kind that may wait for a query, at most a quarter of them from one address; further "
        "requests get a 503. Small requests go into the next query, however many are waiting.",
    )
    api_counters_max_age_s: int = Field(
        default=5,
        ge=0,
        description="max-age of button counters, in seconds: how long browsers and CDNs reuse them without asking.",
    )

    api_lists_ttl_ms: int = Field(
        default=2000,
        ge=0,
        description="How long a list or series is cached, in ms. A top list reads a whole month of counts, so by "
        "default it is read at most once in two seconds.",
    )
    api_money_ttl_ms: int = Field(
        default=15_000,
        ge=0,
        description="How long a creator's estimate and the month's money are cached, in ms: they read every "
        "supporter's flattrs and every pledge.",
    )
    api_poll_ms: int = Field(
        default=250,
        ge=20,
        description="How often the live stream polls the warehouse while it has clients, in ms; one poll serves all. "
        "A count reaches clients within this time plus a query.",
    )
    api_listeners_max: int = Field(
        default=2000,
        ge=1,
        description="Clients of the live stream at a time; each costs a write per event. Further ones get a 503. If "
        "there are API keys, a quarter is reserved for clients that have one.",
    )
    api_listeners_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="The share of FLATTR_API_LISTENERS_MAX that one address may use without an API key; each client "
        "takes 56 kB. Set it to 1 behind a proxy that is not in FLATTR_TRUSTED_PROXIES.",
    )
    api_verify_s: float = Field(
        default=60,
        ge=1,
        description="Minimum time between two checks by the page /verify, in seconds: each reads the flattrs of two "
        "months.",
    )
    api_verify_always: bool = Field(
        default=False,
        description="Also check while nobody looks at /verify, for flattr_verify_wrong and its alert. Set it in one "
        "API process only.",
    )
    api_verify_log: bool = Field(
        default=False,
        description="Also check the log, at FLATTR_BROKER. Only this needs a broker in the API.",
    )
    api_parts: dict[str, HttpUrl] = Field(
        default={},
        description='Services whose health the live page shows, as JSON: {"ingest": "http://127.0.0.1:8001/ready"}.',
    )

    @model_validator(mode="after")
    def _keys_beyond_this_machine(self) -> Self:
        if self.api_keys is None and not self.api_open and self.api_host not in _THIS_MACHINE:
            raise ValueError(
                f"FLATTR_API_HOST={self.api_host} serves other machines without keys: set FLATTR_API_KEYS to a file "
                "from `flattr keys issue`, or FLATTR_API_OPEN=true behind a gateway that authenticates"
            )
        return self


class ApiServerSettings(AddressSettings):
    """The bounds of the read API's port; read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_API_", populate_by_name=True)

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
