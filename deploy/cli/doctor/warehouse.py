"""What the warehouse says: its version, schema, clock, the user's rights, its disks."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib import resources
from typing import Final

from deploy.cli.doctor.clocks import Clock, difference
from deploy.cli.doctor.findings import Finding, ok, unknown, warning, wrong
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import MigrationError, WarehouseError, WarehouseRefused
from warehouse.storage.migrate import migrations, not_applied
from warehouse.storage.replicas import BEHIND_S, Replica, replica_of
from warehouse.storage.topology import Address, Topology

#: The version of the tests and of the image in docker-compose.yml (docs/decisions/0033).
TESTED: Final = "26.9"
_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")
_USERS: Final = "images/clickhouse/users.xml"
_PREFIX: Final = "flattr_"
_GRANT: Final = re.compile(r"(GRANT|REVOKE) (.+) ON flattr\.(\*|\w+)")
_CREATED: Final = re.compile(r"CREATE (?:TABLE|VIEW) IF NOT EXISTS (\w+)")
#: What the migrator does, as "all" is more than anybody can grant for one database.
_ALL: Final = "SELECT, INSERT, ALTER TABLE, CREATE TABLE, DROP TABLE"
#: ClickHouse's code for "not enough privileges".
_NO_RIGHT: Final = 497
_FULL: Final = 0.05
_FILLING: Final = 0.15


def look_at_warehouse(url: str, clock: Clock, role: str, timeout_s: float) -> Iterator[Finding]:
    """Everything that can be asked. ``role`` is one of ``users.xml``; empty: the one that the user's name says."""
    topology = Topology.of(url)
    if not topology.is_tls and any(host not in _THIS_MACHINE for host, _ in topology.nodes):
        yield warning(
            "warehouse", "it is reached without TLS: whoever owns the network reads the password and the counts",
            "use clickhouses:// across any network you do not own",
        )  # fmt: skip
    answering = 0
    replicas: dict[str, Replica] = {}
    for node in topology.nodes:
        with closing(Warehouse(url, timeout_s=timeout_s, topology=topology.server(node, "default"))) as server:
            try:
                ((version,),) = server.rows("SELECT version()")
            except WarehouseError as error:
                yield wrong(_named(node), str(error), "see whether it runs, and what FLATTR_WAREHOUSE says of it")
                continue
            answering += 1
            yield from _look_at_server(_named(node), server, str(version), clock)
            if topology.cluster:
                replicas[_named(node)] = replica_of(server, topology.database)
    yield from _look_at_replicas(replicas)
    if not answering:
        return
    with closing(Warehouse(url, timeout_s=timeout_s)) as warehouse:
        yield from _look_at_schema(warehouse)
        yield from _look_at_rights(warehouse, role or topology.user.removeprefix(_PREFIX), topology.user)


def _named(node: Address) -> str:
    return "warehouse {}:{}".format(*node)


def _look_at_server(about: str, server: Warehouse, version: str, clock: Clock) -> Iterator[Finding]:
    if version.startswith(f"{TESTED}."):
        yield ok(about, f"ClickHouse {version}")
    else:
        yield warning(
            about, f"ClickHouse {version}, while the tests run {TESTED}",
            f"try it apart first, or run {TESTED}, as docker-compose.yml does",
        )  # fmt: skip
    # The connection stands by now: what is left between the two looks is one question.
    before = clock()
    ((at_ms,),) = server.rows("SELECT toUnixTimestamp64Milli(now64(3))")
    yield difference(about, before, int(at_ms), clock())
    yield from _look_at_disks(about, server)


def _look_at_disks(about: str, server: Warehouse) -> Iterator[Finding]:
    about = about.replace("warehouse", "disk of warehouse")
    try:
        disks = server.rows(
            "SELECT name, free_space, total_space FROM system.disks WHERE type = 'Local' AND total_space > 0"
        )
    except WarehouseRefused:
        yield unknown(about, "this user may not read system.disks", "the alert DiskFilling watches them")
        return
    for name, free, total in disks:
        found = f"disk {name!r} has {free / total:.0%} of {total / 1e9:,.0f} GB free"
        if free < _FULL * total:
            yield wrong(about, found, "free or enlarge it before inserts are refused (docs/runbooks.md, DiskFilling)")
        elif free < _FILLING * total:
            yield warning(about, found, "enlarge it soon (docs/runbooks.md, DiskFilling)")
        else:
            yield ok(about, found)


def _look_at_replicas(replicas: Mapping[str, Replica]) -> Iterator[Finding]:
    """Of the tables that this user sees. A node has what any other has."""
    every = frozenset().union(*(replica.tables for replica in replicas.values()))
    for node, replica in replicas.items():
        about, to_do = node.replace("warehouse", "tables of warehouse"), "see docs/runbooks.md, ReplicaBehind"
        found = {
            "missing": sorted(every - replica.tables),
            "read-only": sorted(replica.readonly),
            f"behind for more than {BEHIND_S} s": replica.behind,
        }
        for how, tables in found.items():
            if tables:
                yield wrong(about, f"{how}: {', '.join(tables)}", to_do)
        if not any(found.values()):
            yield ok(about, f"all {len(every)} follow the other nodes")


def _look_at_schema(warehouse: Warehouse) -> Iterator[Finding]:
    about, newest = "schema", f"{migrations()[-1].number:04}"
    to_do = "run `flattr warehouse migrate` as the migrator"
    try:
        missing = not_applied(warehouse)
    except MigrationError as error:
        yield wrong(about, str(error), "run the release that the database was migrated by, or a newer one")
    except WarehouseRefused as error:
        if error.code == _NO_RIGHT:
            yield unknown(about, "this user may not read which migrations were applied", "ask as the migrator")
        else:
            yield wrong(about, f"no migration was applied to {warehouse.database!r}", to_do)
    else:
        if missing:
            yield wrong(about, f"{len(missing)} migrations are not applied, from {missing[0].name} on", to_do)
        else:
            yield ok(about, f"every migration is applied, the last is {newest}")


def _look_at_rights(warehouse: Warehouse, role: str, user: str) -> Iterator[Finding]:
    about = f"rights of {user}"
    needed = needs(role)
    if needed is None:
        yield unknown(about, f"it is none of the roles in deploy/{_USERS}", "name the service: `flattr doctor streams`")
        return
    lacking, missing = [], set()
    for verbs, table in needed:
        try:
            is_there = table == "*" or warehouse.rows(f"EXISTS {warehouse.database}.{table}") == [(1,)]
            is_allowed = warehouse.rows(f"CHECK GRANT {verbs} ON {warehouse.database}.{table}") == [(1,)]
        except WarehouseRefused:
            # Whoever may do nothing with a table is not even told whether there is one.
            is_there, is_allowed = True, False
        if not is_there:
            missing.add(table)
        elif not is_allowed:
            lacking.append(f"{verbs} ON {table}")
    if missing:
        yield wrong(
            about, f"it sees no {', '.join(sorted(missing))}", "migrate the database, or grant what users.xml has"
        )
    if lacking:
        yield wrong(
            about,
            f"what {role} does needs {'; '.join(lacking)}",
            f"bring deploy/{_USERS} of this version to the server",
        )
    if not missing and not lacking:
        yield ok(about, f"all {len(needed)} that {role} needs")


def needs(role: str) -> list[tuple[str, str]] | None:
    """What the role's entry of ``users.xml`` grants in our database: a verb and a table each. None: no such role."""
    users = ET.fromstring((resources.files("deploy") / _USERS).read_text()).find("users")  # noqa: S314 - our own file
    entry = None if users is None else users.find(f"{_PREFIX}{role}")
    if entry is None:
        return None
    statements = [found for query in entry.iter("query") if (found := _GRANT.fullmatch(query.text or ""))]
    revoked = {table for kind, _, table in (found.groups() for found in statements) if kind == "REVOKE"}
    needed = []
    for kind, verbs, table in (found.groups() for found in statements):
        if kind == "REVOKE":
            continue
        # A right to all tables but some is asked for one by one.
        tables = sorted(_created() - revoked) if table == "*" and revoked else [table]
        needed += [(_ALL if verbs == "ALL" else verbs, one) for one in tables]
    return needed


def _created() -> set[str]:
    return {name for migration in migrations() for name in _CREATED.findall(migration.sql)}
