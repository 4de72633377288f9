"""Prometheus metrics of the quarantine, served by `flattr quarantine scan --every`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from ingest.contract.month import month_text
from warehouse.quarantine.log import in_force, read_steps
from warehouse.storage.client import Warehouse


class QuarantineMetrics:
    """Every metric of the scan, in its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.flags = Gauge(
            "flattr_quarantine_flags", "Flags in force, by month and rule.", ["month", "rule"], registry=self.registry
        )
        self.steps = Gauge("flattr_quarantine_steps", "Steps in a month's log.", ["month"], registry=self.registry)
        self.held = Gauge("flattr_quarantine_flattrs", "Flattrs in quarantine.", ["month"], registry=self.registry)
        self.at = Gauge("flattr_quarantine_last_timestamp_seconds", "Time of the last scan.", registry=self.registry)

    def serve(self, host: str, port: int) -> None:
        """Serve /metrics. Raises ``OSError`` when the port is in use."""
        start_http_server(port, addr=host, registry=self.registry)

    def show(self, warehouse: Warehouse, month: int, flattrs: int) -> None:
        """Update a month's metrics; ``flattrs`` is the number in quarantine."""
        taken = read_steps(warehouse, month)
        name = month_text(month)
        self.flags.remove_by_labels({"month": name})
        for step in in_force(taken).values():
            self.flags.labels(name, step.rule).inc()
        self.steps.labels(name).set(len(taken))
        self.held.labels(name).set(flattrs)
        self.at.set_to_current_time()
