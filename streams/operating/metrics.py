"""Every metric of the stream worker; there are no others."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters and gauges of one worker, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # What was done.
        self.clicks = Counter(
            "flattr_streams_clicks", "Clicks counted in, whatever became of them", registry=self.registry
        )
        self.flushes = Counter("flattr_streams_flushes", "Flushes written", registry=self.registry)
        self.malformed = Counter(
            "flattr_streams_malformed", "Of these, those that cannot be read: none came through ingest",
            registry=self.registry,
        )  # fmt: skip
        self.malformed_share = Gauge(
            "flattr_streams_malformed_share", "Their share of the last minute's, from 1000 clicks on",
            registry=self.registry,
        )  # fmt: skip
        # How long it took.
        self.flush_s = Histogram(
            "flattr_streams_flush_seconds", "One flush: all its writes, until progress says so", registry=self.registry
        )
        # How far behind each partition is, against the log's end.
        self.lag_records = Gauge(
            "flattr_streams_lag_records",
            "Records in the log that are not counted",
            ["partition"],
            registry=self.registry,
        )
        self.lag_s = Gauge(
            "flattr_streams_lag_seconds",
            "Since when there is something uncounted",
            ["partition"],
            registry=self.registry,
        )
        # What it holds.
        self.state_flattrs = Gauge("flattr_streams_state_flattrs", "Flattrs in memory", registry=self.registry)
        self.spilled_bytes = Gauge(
            "flattr_streams_state_spilled_bytes", "Tables of the state in files, over the bound", registry=self.registry
        )
        self.state_bytes = Gauge("flattr_streams_state_bytes", "Memory of the state's tables", registry=self.registry)
