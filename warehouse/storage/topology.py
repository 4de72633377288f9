"""Where the warehouse is: one address, or shards of replicas, with or without TLS; all of it stands in one URL.

``clickhouse://user:password@host:port/database`` is one server, ``clickhouses://`` one behind TLS. A cluster names its
nodes, replicas separated by commas and shards by plus signs, and itself as the servers' own ``remote_servers`` do:
``clickhouses://user:password@a:9440,b:9440+c:9440,d:9440/flattr?cluster=flattr&ca=/run/secrets/ca.pem``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from ingest.runtime.host_port import host_port
from ingest.runtime.setting_error import SettingError

Address = tuple[str, int]
_FORM: Final = "clickhouse://user:password@host:port/database"
_CLUSTER_FORM: Final = "clickhouse://user:password@host:port,host:port+host:port,host:port/database?cluster=NAME"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT, _TLS_PORT = 9000, 9440
#: Sent with every statement on a cluster. A write is acknowledged once a majority of the replicas has it, and none is
#: half done; a read is whole or an error.
_CLUSTER_SETTINGS: Final[dict[str, Any]] = {
    "insert_quorum": "auto",
    "insert_quorum_timeout": 20_000,
    "insert_keeper_max_retries": 5,
    # Rows are idempotent by themselves, and two equal blocks may well be meant.
    "insert_deduplicate": 0,
    "async_insert": 0,
    "distributed_foreground_insert": 1,
    "distributed_product_mode": "global",
    "skip_unavailable_shards": 0,
    "fallback_to_stale_replicas_for_distributed_queries": 0,
    "load_balancing": "in_order",
    # A change of a table is done when every replica has made it, so that none comes back without it.
    "alter_sync": 2,
    "mutations_sync": 2,
    "replication_wait_for_inactive_replica_timeout": 20,
}


@dataclass(frozen=True)
class Topology:
    """Shards of replicas, and how to sign in. ``cluster`` is empty for one server, which has one shard of one node."""

    shards: tuple[tuple[Address, ...], ...]
    database: str
    user: str = "default"
    password: str = ""
    is_tls: bool = False
    ca: str | None = None
    cluster: str = ""

    @classmethod
    def of(cls, url: str) -> Self:
        """As the URL says. Raises ``SettingError``, whose message shows no password."""
        try:
            return cls._read(url)
        except ValueError as error:
            raise SettingError(f"FLATTR_WAREHOUSE (or --warehouse) is {masked(url)!r}: {error}") from None

    @classmethod
    def _read(cls, url: str) -> Self:
        address = urlsplit(url)
        if address.scheme not in {"clickhouse", "clickhouses"} or not address.netloc:
            raise ValueError(f"it must be {_FORM}")
        is_tls = address.scheme == "clickhouses"
        options = dict(parse_qsl(address.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - {"cluster", "ca"}):
            raise ValueError(f"it has the unknown option {unknown[0]!r}; there are cluster and ca")
        if "ca" in options and not is_tls:
            raise ValueError("it names a CA without TLS: it must begin with clickhouses://")
        signed_in, _, hosts = address.netloc.rpartition("@")
        user, _, password = signed_in.partition(":")
        shards = tuple(
            tuple(_address(host, _TLS_PORT if is_tls else _PORT) for host in shard.split(","))
            for shard in hosts.split("+")
        )
        cluster = options.get("cluster", "")
        if ("cluster" in options or sum(map(len, shards)) > 1) and not _NAME.fullmatch(cluster):
            raise ValueError(f"several hosts are a cluster, which has a name: {_CLUSTER_FORM}")
        return cls(
            shards, address.path.strip("/") or "default", unquote(user or "default"), unquote(password),
            is_tls, options.get("ca"), cluster,
        )  # fmt: skip

    @property
    def nodes(self) -> tuple[Address, ...]:
        """Every node, in the order in which they are tried."""
        return tuple(node for shard in self.shards for node in shard)

    @property
    def settings(self) -> dict[str, Any]:
        """ClickHouse settings that go with every statement."""
        return dict(_CLUSTER_SETTINGS) if self.cluster else {}

    def only(self, *nodes: Address) -> Self:
        """The same cluster, but these nodes alone are spoken to, in this order."""
        return replace(self, shards=(nodes,))

    def server(self, node: Address, database: str = "") -> Self:
        """One node by itself, as a single server: no names or settings of the cluster."""
        return replace(self, shards=((node,),), cluster="", database=database or self.database)

    def connection(self, node: Address) -> dict[str, Any]:
        """The driver's arguments for a connection to a node."""
        tls = {"secure": True, "verify": True, "ca_certs": self.ca} if self.is_tls else {}
        host, port = node
        return {
            "host": host, "port": port, "database": self.database, "user": self.user, "password": self.password, **tls
        }  # fmt: skip


def _address(text: str, port: int) -> Address:
    try:
        return host_port(text, port)
    except ValueError as error:
        raise ValueError(f"{error}; it must be {_FORM}, or {_CLUSTER_FORM}") from None


def masked(url: str) -> str:
    """The URL with its password masked, for messages and logs."""
    address = urlsplit(url)
    signed_in, at, hosts = address.netloc.rpartition("@")
    user, colon, _ = signed_in.partition(":")
    return urlunsplit(address._replace(netloc=f"{user}:***@{hosts}")) if at and colon else url
