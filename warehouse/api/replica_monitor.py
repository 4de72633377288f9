"""Asks each node of a cluster how it follows the others, for the metrics; of one server there is nothing to ask.

Beside the scrapes, not within them: a node that stands still makes none of them wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from warehouse.api.metrics import ReplicaMetrics
from warehouse.storage.errors import WarehouseError
from warehouse.storage.replicas import ask_replica
from warehouse.storage.topology import Address, Topology

_log = structlog.get_logger()
_EVERY_S: Final = 15
#: A node that takes longer is as good as away.
_TIMEOUT_S: Final = 2


class ReplicaMonitor:
    """Sets ``flattr_warehouse_replica_*`` of every node."""

    def __init__(self, topology: Topology, metrics: ReplicaMetrics) -> None:
        self._topology = topology
        self._metrics = metrics
        self._away: set[str] = set()

    async def run(self) -> None:
        """Ask at intervals, all nodes side by side."""
        while self._topology.cluster:
            await asyncio.gather(*(self._look_at(node) for node in self._topology.nodes))
            await asyncio.sleep(_EVERY_S)

    async def _look_at(self, node: Address) -> None:
        name = "{}:{}".format(*node)
        try:
            found = await asyncio.to_thread(ask_replica, self._topology, node, _TIMEOUT_S)
        except WarehouseError as error:
            self._is_away(name, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is
            # The task must not end unsaid: nobody would look until the next start.
            self._is_away(name, repr(error))
        else:
            self._away.discard(name)
            self._metrics.up.labels(name).set(1)
            self._metrics.tables.labels(name).set(len(found.tables))
            self._metrics.readonly_tables.labels(name).set(len(found.readonly))
            self._metrics.delay_seconds.labels(name).set(found.delay_s)

    def _is_away(self, name: str, error: str) -> None:
        self._metrics.up.labels(name).set(0)
        if name not in self._away:
            self._away.add(name)
            _log.warning("a node of the warehouse does not say how it follows the others", node=name, error=error)
