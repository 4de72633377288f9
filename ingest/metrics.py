"""Every metric of ingest: a closed list. A name that is not here is not counted."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest.click import Reason

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One service's metrics, in a registry of their own: two apps in one process do not add up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "flattr_ingest_clicks_accepted", "Clicks answered 202: the broker has them.", registry=self.registry
        )
        refused = Counter(
            "flattr_ingest_refused", "Items and requests refused, by reason.", ["reason"], registry=self.registry
        )
        #: Every reason from the start, so that a rate over a rare one is not a gap.
        self.refused = {reason: refused.labels(reason=reason.value) for reason in Reason}
        self.requests = Counter("flattr_ingest_requests", "Requests to the beacon.", registry=self.registry)
        self.answer_seconds = Histogram(
            "flattr_ingest_answer_seconds",
            "From the whole request being read to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.blocks = Counter("flattr_ingest_blocks", "Blocks acknowledged by the broker.", registry=self.registry)
        self.block_clicks = Histogram(
            "flattr_ingest_block_clicks",
            "Clicks in a block.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000),
            registry=self.registry,
        )
        self.blocks_failed = Counter(
            "flattr_ingest_blocks_failed", "Blocks that the broker did not acknowledge in time.", registry=self.registry
        )
        self.queued_bytes = Gauge(
            "flattr_ingest_queued_bytes", "Clicks in memory, waiting for the broker.", registry=self.registry
        )
        self.broker_up = Gauge("flattr_ingest_broker_up", "1 while blocks can be sent.", registry=self.registry)
        self.producers = Counter(
            "flattr_ingest_producers", "Producers started: more than one says that one was given up.",
            registry=self.registry,
        )  # fmt: skip
        self.rejections_kept = Counter(
            "flattr_ingest_rejections_kept", "Refused input sent to its topic.", registry=self.registry
        )
        self.rejections_dropped = Counter(
            "flattr_ingest_rejections_dropped",
            "Refused input that was only counted: beyond the rate, or the broker away.",
            registry=self.registry,
        )
