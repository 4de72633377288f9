"""Settings of the stream worker."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ingest.contract.times import SKEW_MIN_MS
from ingest.runtime.kafka_settings import BrokerSettings
from warehouse.storage.settings import WarehouseSettings


class StreamsSettings(BrokerSettings, WarehouseSettings):
    """What a worker has to know. Read from the environment, frozen."""

    log_epoch: int = Field(
        default=0,
        ge=0,
        le=255,
        description="Raise it by one when the topics were made anew and their offsets start at 0.",
    )
    grace_s: float = Field(
        default=3600, ge=0, description="How long after its end a month takes clicks, in s, by the record's timestamp."
    )
    skew_min_s: float = Field(
        default=SKEW_MIN_MS // 1000,
        ge=0,
        description="A client's clock that is off by at least so much is mended, in s; below, its times are believed, "
        "so that what a request takes on its way moves no click. The same for all workers and for `flattr replay`; "
        "changed, it changes which month clicks near a month's end are of.",
    )
    clock: str = Field(default="system", description="system, +SECONDS, -SECONDS or file:PATH.")
    streams_host: str = Field(default="127.0.0.1", description="Where /live, /ready and /metrics listen.")
    streams_port: int = Field(default=8002, ge=0, le=65535, description="Their port.")
    streams_group: str = Field(
        default="flattr-streams", description="Consumer group: workers of one group share the log."
    )
    streams_flush_ms: int = Field(
        default=250,
        ge=1,
        description="A click waits at most this long before it is written: counts lag by it, inserts get larger.",
    )
    streams_flush_bytes: int = Field(
        default=16 << 20,
        ge=1,
        description="A batch is written at this size in bytes even if the time is not up; bounds an insert's memory.",
    )
    streams_fetch_bytes: int = Field(
        default=4 << 20, ge=1, description="What one fetch takes of one partition, in bytes."
    )
    streams_patience_s: float = Field(
        default=300,
        gt=0,
        description="How long the warehouse may be away before the worker gives up with an exit code, in s.",
    )
    streams_session_timeout_s: float = Field(
        default=6,
        ge=1,
        description="Kafka's session timeout: a killed worker's partitions stand still that long, in s.",
    )
    streams_stall_s: float = Field(
        default=60,
        gt=0,
        description="A partition with clicks to count whose progress stands still that long fails /ready, in s.",
    )
    streams_state_max_mb: int = Field(
        default=4096,
        ge=0,
        description="Memory for the state's tables, in MiB: some 70 bytes a flattr with its counts. Tables beyond it "
        "are kept in files: exact, but as slow as the disk when the machine's memory is short.",
    )
    streams_spill_folder: Path | None = Field(
        default=None, description="Where those files are; the system's folder for temporary files if not set."
    )
    streams_malformed_max: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="When more than this share of a minute's clicks (of 1000 at least) cannot be read, a producer "
        "other than ingest writes something else: it is logged, and 256 bytes are kept of each. Counting goes on.",
    )
    streams_drain_s: float = Field(
        default=20, gt=0, description="How long a leaving worker or a rebalance waits for the write under way, in s."
    )

    @property
    def warehouse_url(self) -> str:
        """The warehouse's URL with its password."""
        return self.warehouse.get_secret_value()
