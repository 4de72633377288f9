"""Whether one node of a cluster follows the others, as it says of itself.

A cluster goes on without a node, so nobody is told that one is away, takes no rows or stays behind, until the next one
dies: each has to be asked by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from warehouse.storage.client import Warehouse
from warehouse.storage.topology import Address, Topology

#: None of these columns has the node ask the coordinator, which may be what is away.
_TABLES: Final = "SELECT table, is_readonly, absolute_delay FROM system.replicas WHERE database = %(database)s"
#: A node that is behind by more than this does not just lag: a flush comes every second.
BEHIND_S: Final = 60


@dataclass(frozen=True)
class Replica:
    """A node's replicated tables, of those that the user sees."""

    tables: frozenset[str]
    #: Those that take no rows: the node has lost the coordinator, or the coordinator the node.
    readonly: frozenset[str]
    #: Of each other table, for how long the oldest row that the node lacks has been there.
    delays_s: Mapping[str, int]

    @property
    def behind(self) -> list[str]:
        """The tables that stay behind."""
        return sorted(table for table, delay_s in self.delays_s.items() if delay_s > BEHIND_S)

    @property
    def delay_s(self) -> int:
        """That of the table which is furthest behind."""
        return max(self.delays_s.values(), default=0)


def ask_replica(topology: Topology, node: Address, timeout_s: float) -> Replica:
    """Ask one node, by a connection of its own. Raises ``WarehouseError``.

    Neither the coordinator nor another node takes part in the answer, so those may be away.
    """
    # A node whose disk was lost has no such database: it is asked from the one that every server has.
    alone = topology.server(node, "default")
    with closing(Warehouse("clickhouse://{}:{}".format(*node), timeout_s=timeout_s, topology=alone)) as server:
        return replica_of(server, topology.database)


def replica_of(server: Warehouse, database: str) -> Replica:
    """What the server that a warehouse speaks with says of a database. Raises ``WarehouseError``."""
    found = server.rows(_TABLES, {"database": database})
    readonly = frozenset(str(table) for table, is_readonly, _ in found if is_readonly)
    return Replica(
        frozenset(str(table) for table, _, _ in found),
        readonly,
        {str(table): int(delay_s) for table, _, delay_s in found if table not in readonly},
    )
