"""The metrics of the read API, all of them."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class ApiMetrics:
    """One registry per app, so that two apps in one process do not share metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "flattr_api_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "flattr_api_request_seconds",
            "From the request's first byte to the answer's first.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.query_seconds = Histogram(
            "flattr_api_query_seconds",
            "One warehouse call, without waiting for a thread.",
            ["query"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queries_waiting = Gauge(
            "flattr_api_queries_waiting", "Warehouse calls running or waiting for a thread.", registry=self.registry
        )
        self.queries_failed = Counter(
            "flattr_api_queries_failed", "Warehouse calls that failed.", ["query"], registry=self.registry
        )
        self.refused = Counter(
            "flattr_api_refused", "Requests refused before routing.", ["reason"], registry=self.registry
        )
        self.connections = Gauge("flattr_api_connections", "Open connections.", registry=self.registry)
        self.held_bytes = Gauge(
            "flattr_api_held_bytes", "Bytes of unfinished and unanswered requests.", registry=self.registry
        )
        self.listeners = Gauge("flattr_api_listeners", "Clients of the live stream.", registry=self.registry)
        # `flattr verify --port` exports these under the same names.
        self.verify_equations = Gauge("flattr_verify_equations", "Equations in the last check.", registry=self.registry)
        self.verify_wrong = Gauge("flattr_verify_wrong", "Equations that did not hold.", registry=self.registry)
        self.verify_at = Gauge(
            "flattr_verify_last_timestamp_seconds", "Time of the last check; 0 before any.", registry=self.registry
        )
        # About the pipeline, as seen from the warehouse: right even when the workers are gone.
        self.lag_records = Gauge(
            "flattr_pipeline_lag_records", "Records not yet counted.", ["partition"], registry=self.registry
        )
        self.lag_seconds = Gauge(
            "flattr_pipeline_lag_seconds",
            "Age of the moment up to which every accepted click is counted.",
            ["partition"],
            registry=self.registry,
        )
        self.close_overdue_seconds = Gauge(
            "flattr_pipeline_close_overdue_seconds",
            "For how long the oldest open month could have been closed; 0 if none could.",
            registry=self.registry,
        )
        self.backed_up_at = Gauge(
            "flattr_backup_last_timestamp_seconds",
            "When the newest whole backup was begun; before the first one, when the database was made.",
            registry=self.registry,
        )
        self.replicas = ReplicaMetrics(self.registry)


class ReplicaMetrics:
    """Of a cluster, by node as FLATTR_WAREHOUSE names it; one server has none of these."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, about: str) -> Gauge:
            return Gauge(f"flattr_warehouse_replica_{name}", about, ["node"], registry=registry)

        self.up = gauge("up", "1 if the node answered when it was asked.")
        self.tables = gauge("tables", "Replicated tables of the node.")
        self.readonly_tables = gauge("readonly_tables", "Tables of the node that take no rows.")
        self.delay_seconds = gauge(
            "delay_seconds", "For how long the node has lacked a row of the others, of its tables that take rows."
        )
