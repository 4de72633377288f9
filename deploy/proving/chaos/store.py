"""The warehouse of a chaos run: one server, or a cluster of shards and replicas with its coordinator."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from deploy.proving.chaos.proxy import Proxies, Proxy
from deploy.proving.rig.cluster import NAME, Cluster, Node
from deploy.stack.embedded import EmbeddedWarehouse, ServiceProcess
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseUnavailable

_DATABASE: Final = "flattr"
_MEMORY_MAX_BYTES: Final = 4_000_000_000
_SETTLE_TIMEOUT_S: Final = 60
_LOOK_EVERY_S: Final = 0.5


class Store:
    """``shards`` x ``replicas`` nodes, or one server if both are 1. Services are named ``warehouse...``."""

    def __init__(self, folder: Path, shards: int, replicas: int) -> None:
        self._cluster = Cluster(folder, shards=shards, replicas=replicas) if shards * replicas > 1 else None
        alone = EmbeddedWarehouse(folder / "warehouse", memory_max_bytes=_MEMORY_MAX_BYTES)
        self._shards: list[list[Node]] | list[list[EmbeddedWarehouse]] = (
            self._cluster.shards if self._cluster else [[alone]]
        )
        self.nodes: list[ServiceProcess] = [node for shard in self._shards for node in shard]

    @property
    def services(self) -> list[ServiceProcess]:
        """Every process, the coordinator first: nodes wait for it."""
        return [*([self._cluster.coordinator] if self._cluster else []), *self.nodes]

    @property
    def url(self) -> str:
        """``FLATTR_WAREHOUSE``."""
        return self._url(lambda node: node.address)

    @property
    def oracle_url(self) -> str:
        """One node's address, for a plain driver that knows nothing of clusters."""
        return f"clickhouse://{self.nodes[0].address}/{_DATABASE}"

    def linked_url(self, links: dict[str, Proxy], proxies: Proxies, client: str) -> str:
        """The same through links of a client's own, which are added to ``links``."""

        def link(node: ServiceProcess) -> str:
            name = f"{node.name}-{client}"
            links[name] = proxies.before(node.port)
            return links[name].address

        return self._url(link)

    def settle(self) -> None:
        """Have every replica fetch what the others acknowledged, so that the oracle may ask any.

        Raises ``WarehouseUnavailable`` for a node that cannot within a minute: it came back and stayed behind.
        """
        deadline_s = time.monotonic() + _SETTLE_TIMEOUT_S
        for node in self.nodes:
            with closing(Warehouse(self._with_name(node.address))) as warehouse:
                _settle(warehouse, deadline_s)

    def _url(self, address: Callable[[ServiceProcess], str]) -> str:
        return self._with_name("+".join(",".join(address(node) for node in shard) for shard in self._shards))

    def _with_name(self, hosts: str) -> str:
        return f"clickhouse://{hosts}/{_DATABASE}" + (f"?cluster={NAME}" if self._cluster else "")


def _settle(warehouse: Warehouse, deadline_s: float) -> None:
    while True:
        try:
            warehouse.catch_up()
        except WarehouseUnavailable:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_LOOK_EVERY_S)
        else:
            return
