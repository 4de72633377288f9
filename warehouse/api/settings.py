"""Settings of the read API."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from pydantic import Field, HttpUrl, model_validator

from warehouse.storage.settings import WarehouseSettings

_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")


class ApiSettings(WarehouseSettings):
    """What `flattr api` reads from the environment, frozen."""

    clock: str = Field(
        default="system",
        description="Clock of the service: system, +SECONDS, -SECONDS or file:PATH. The demo and the tests shift it.",
    )
    api_host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. This machine alone by default: what faces a network is said aloud.",
    )
    api_port: int = Field(default=8003, ge=0, le=65535, description="Port to listen on.")
    api_keys: Path | None = Field(
        default=None,
        description="File of API keys, written by `flattr keys issue`. Without it everything is open, which is only "
        "allowed on this machine, or with FLATTR_API_OPEN=true.",
    )
    api_open: bool = Field(
        default=False,
        description="Serve without keys beyond this machine: behind a gateway that asks for its own.",
    )
    ingest_aliases_file: Path | None = Field(
        default=None,
        description="The alias table of ingest, so that a counter asked for by address finds the same thing.",
    )
    api_threads: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Warehouse calls at a time: one thread and one connection each, since the driver blocks. "
        "Two per core of the warehouse keep it busy; more only queue inside it.",
    )
    api_queue_max: int = Field(
        default=256,
        ge=1,
        description="Calls that may wait for a thread; one more is answered 503 instead of waiting past its use.",
    )
    api_query_timeout_s: float = Field(
        default=10,
        gt=0,
        description="How long one query may take. A dashboard asks again; a slow query must not hold a thread.",
    )
    api_lag_ttl_ms: int = Field(
        default=500,
        ge=0,
        description="How long the lag of the pipeline is reused, in ms; asked for anew when half of that is over. It "
        "is read before the count beside it, so an older one is still true, only less fresh.",
    )
    api_pitch_ms: int = Field(
        default=40,
        ge=0,
        description="Queries for counts of one kind start at least so far apart, in ms; what comes meanwhile goes "
        "into one. Whoever asks alone does not wait. It bounds them at 25 a second for each kind.",
    )
    api_counters_ttl_ms: int = Field(
        default=1000,
        ge=0,
        description="How long a button counter is kept in memory, in ms, and again the whole answer to a page. The "
        "number of queries hangs on it, not on the number of page views.",
    )
    api_counters_kept_bytes: int = Field(
        default=16 << 20,
        ge=1 << 16,
        description="Memory for button counters, and as much again for whole answers, in bytes; the oldest go first. "
        "A counter takes about 600, so this is more than can be asked of the warehouse while they are young.",
    )
    api_counts_waiting_max: int = Field(
        default=8000,
        ge=400,
        description="Counts of one kind that may wait to be asked of the warehouse, a quarter of them for one address; "
        "who asks for more is answered 503. Who asks for few is in the next query, however many wait.",
    )
    api_counters_max_age_s: int = Field(
        default=5,
        ge=0,
        description="What Cache-Control tells browsers and edges, in seconds: the next page view asks nobody.",
    )

    api_lists_ttl_ms: int = Field(
        default=2000,
        ge=0,
        description="How long a list or series is kept in memory, in ms. A top list reads a whole month of counts: "
        "once every two seconds at most, whoever looks.",
    )
    api_money_ttl_ms: int = Field(
        default=15_000,
        ge=0,
        description="How long a creator's provisional take and the month's money are kept, in ms: they read every "
        "supporter's ballot and every pledge.",
    )
    api_poll_ms: int = Field(
        default=250,
        ge=20,
        description="How often the live stream asks the warehouse while somebody listens, in ms: one poll for all. "
        "A count reaches its listeners within this and a query's time.",
    )
    api_listeners_max: int = Field(
        default=2000,
        ge=1,
        description="Clients of the live stream at a time; each costs a write per event. One more is answered 503. "
        "A quarter is for clients with an API key, where there are keys.",
    )
    api_listeners_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="So much of FLATTR_API_LISTENERS_MAX one address may hold without an API key: each takes 56 kB. 1 "
        "behind a proxy that is not in FLATTR_TRUSTED_PROXIES.",
    )
    api_verify_s: float = Field(
        default=60,
        ge=1,
        description="The page /verify compares at most so often, in s: it reads the flattrs of two months.",
    )
    api_verify_always: bool = Field(
        default=False,
        description="Compare also while nobody looks, for flattr_verify_wrong and its alert: in one API process.",
    )
    api_verify_log: bool = Field(
        default=False,
        description="Compare with the log as well: FLATTR_BROKER and the settings beside it say where. The one thing "
        "for which the API needs a broker.",
    )
    api_parts: dict[str, HttpUrl] = Field(
        default={},
        description='Parts whose health the live page shows: JSON such as {"ingest": "http://127.0.0.1:8001/ready"}.',
    )

    @model_validator(mode="after")
    def _keys_beyond_this_machine(self) -> Self:
        if self.api_keys is None and not self.api_open and self.api_host not in _THIS_MACHINE:
            raise ValueError(
                f"FLATTR_API_HOST={self.api_host} serves beyond this machine: set FLATTR_API_KEYS to a file from "
                "`flattr keys issue`, or FLATTR_API_OPEN=true when a gateway in front asks who is there"
            )
        return self
