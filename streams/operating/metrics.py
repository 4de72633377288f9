"""Every metric of the stream worker: a closed list."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters and gauges of one worker, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # What was done.
        self.clicks = Counter("flattr_streams_clicks", "Clicks processed, whatever their label", registry=self.registry)
        self.flushes = Counter("flattr_streams_flushes", "Flushes written", registry=self.registry)
        self.malformed = Counter(
            "flattr_streams_malformed", "Malformed clicks; none of them can come from ingest",
            registry=self.registry,
        )  # fmt: skip
        self.malformed_share = Gauge(
            "flattr_streams_malformed_share", "Malformed fraction of the last minute's clicks; 0 below 1000 clicks",
            registry=self.registry,
        )  # fmt: skip
        # How long it took.
        self.flush_s = Histogram(
            "flattr_streams_flush_seconds",
            "Seconds of one flush, from its first write to its progress",
            registry=self.registry,
        )
        # How far each partition is behind the end of its log.
        self.lag_records = Gauge(
            "flattr_streams_lag_records",
            "Records in the log that are not counted yet",
            ["partition"],
            registry=self.registry,
        )
        self.lag_s = Gauge(
            "flattr_streams_lag_seconds",
            "Age in seconds of the oldest record that is not counted yet",
            ["partition"],
            registry=self.registry,
        )
        self.kafka_silent_s = Gauge(
            "flattr_streams_kafka_silent_seconds",
            "Seconds since Kafka last told where the log ends",
            registry=self.registry,
        )
        # What it holds.
        self.state_flattrs = Gauge("flattr_streams_state_flattrs", "Flattrs in memory", registry=self.registry)
        self.spilled_bytes = Gauge(
            "flattr_streams_state_spilled_bytes",
            "Bytes of the state's tables in files, beyond the memory bound",
            registry=self.registry,
        )
        self.state_bytes = Gauge(
            "flattr_streams_state_bytes", "Bytes of the state's tables in memory", registry=self.registry
        )
