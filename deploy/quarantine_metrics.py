"""Figures of the quarantine for Prometheus, served while `flattr quarantine scan --every` runs."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from warehouse.client import Warehouse
from warehouse.quarantine.log import in_force, read_steps

Show = Callable[[Warehouse, int, int], None]


def serve(port: int) -> Show:
    """Serve /metrics on this machine; what is returned takes the warehouse, the month and its flattrs in quarantine."""
    registry = CollectorRegistry()
    flags = Gauge("flattr_quarantine_flags", "Flags that stand in the month, by rule.", ["rule"], registry=registry)
    steps = Gauge("flattr_quarantine_steps", "Steps in the month's log.", registry=registry)
    held = Gauge("flattr_quarantine_flattrs", "Flattrs in quarantine.", registry=registry)
    at = Gauge("flattr_quarantine_last_timestamp_seconds", "When the month was scanned last.", registry=registry)
    start_http_server(port, addr="127.0.0.1", registry=registry)

    def show(warehouse: Warehouse, month: int, flattrs: int) -> None:
        taken = read_steps(warehouse, month)
        flags.clear()
        for step in in_force(taken).values():
            flags.labels(step.rule).inc()
        steps.set(len(taken))
        held.set(flattrs)
        at.set_to_current_time()

    return show
