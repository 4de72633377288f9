"""Settings of the stream worker."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ingest.contract.times import GRACE_MAX_S, SKEW_MIN_MS
from ingest.runtime.clock import ClockSetting
from ingest.runtime.host_port import Host
from ingest.runtime.kafka_settings import BrokerSettings
from warehouse.storage.settings import WarehouseSettings


class StreamsSettings(BrokerSettings, WarehouseSettings):
    """What a worker needs to know; read from the environment, frozen."""

    log_epoch: int = Field(
        default=0,
        ge=0,
        le=255,
        description="Log epoch; raise it by one after the topics were recreated and their offsets restarted at 0.",
    )
    grace_s: float = Field(
        default=3600,
        ge=0,
        le=GRACE_MAX_S,
        description="Grace: how long after its end a month accepts clicks, in s, by the record's timestamp.",
    )
    skew_min_s: float = Field(
        default=SKEW_MIN_MS // 1000,
        ge=0,
        description="Smallest skew of a client's clock that is corrected, in s; a smaller one is ignored, so that a "
        "request's transit time does not move its clicks. Must be the same for all workers and for `flattr replay`: "
        "changing it changes the month of clicks near the end of a month.",
    )
    clock: ClockSetting = Field(default="system", description="system, +SECONDS, -SECONDS or file:PATH.")
    streams_host: Host = Field(default="127.0.0.1", description="Address to listen on for /live, /ready and /metrics.")
    streams_port: int = Field(default=8002, ge=0, le=65535, description="Port to listen on for these.")
    streams_group: str = Field(
        default="flattr-streams",
        pattern=r"^[\x21-\x7e]{1,249}$",
        description="Consumer group; the workers of a group share the partitions.",
    )
    streams_flush_ms: int = Field(
        default=100,
        ge=1,
        description="How long a click waits before it is written: longer makes counts lag more and inserts larger.",
    )
    streams_flush_bytes: int = Field(
        default=16 << 20,
        ge=1,
        description="A batch of this size is written before its time is up, which bounds the memory of an insert.",
    )
    streams_fetch_bytes: int = Field(default=4 << 20, ge=1, description="Maximum bytes of one fetch of one partition.")
    streams_patience_s: float = Field(
        default=300,
        gt=0,
        description="How long the warehouse may be unavailable before the worker stops with an error, in s.",
    )
    streams_session_timeout_s: float = Field(
        default=6,
        ge=1,
        description="Kafka's session timeout, in s: how long the partitions of a killed worker are not counted.",
    )
    streams_stall_s: float = Field(
        default=60,
        gt=0,
        description="A partition that has clicks to count and makes no progress for this long fails /ready, in s. If "
        "Kafka's records do not even arrive for five times this long, the worker ends, to be started anew.",
    )
    streams_state_max_mb: int = Field(
        default=4096,
        ge=0,
        description="Memory for the state's tables, in MiB, about 70 bytes per flattr with its counts. Further tables "
        "go into files, which is exact but as slow as the disk when the machine is short of memory.",
    )
    streams_spill_folder: Path | None = Field(
        default=None, description="Folder for those files. Unset: the system's temporary folder."
    )
    streams_malformed_max: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="When more than this fraction of a minute's clicks (of at least 1000) is malformed, a producer "
        "other than ingest is at fault: an error is logged, and only 256 bytes of each are stored. Counting goes on.",
    )
    streams_drain_s: float = Field(
        default=20, gt=0, description="How long a stopping worker or a rebalance waits for the write in progress, in s."
    )

    @property
    def warehouse_url(self) -> str:
        """The warehouse's URL, including its password."""
        return self.warehouse.get_secret_value()
