"""A warehouse with rows in every table, and the same rows on a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from ingest.contract.thing import thing_id
from tests.payout.build import Flattr, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.quarantine.build import flag
from warehouse.payout.closed_months import all_payouts
from warehouse.payout.inputs import adjustments, creators
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse
from warehouse.storage.placement import SHARDED

SEPTEMBER, OCTOBER, NOVEMBER = 202609, 202610, 202611
MONTHS: Final = (SEPTEMBER, OCTOBER, NOVEMBER)
MEMBER, CREATOR, SITE = "m-1", "anna", "site"
THING: Final = bytes.fromhex(thing_id(CREATOR, "https://anna.example/0"))
#: What columns of invented rows say, so that one finds the other, and a query finds both.
_SAID: Final[dict[str, Any]] = {
    "month": SEPTEMBER, "about_month": SEPTEMBER, "member_id": MEMBER, "member": MEMBER, "creator_id": CREATOR,
    "thing_id": THING, "site_id": SITE, "currency": "EUR", "sha256": "f", "file_sha256": "f", "member_sha256": "m",
    "end_to_end_id": "debit", "result": "collected", "archives.month": 202601, "withdrawn": 0, "ends": 0, "until": 0,
    "log_moves.step": "drained",
    "log_moves.epoch": 1, "erasure_log.step": "done", "erasure": str(UUID(int=1)), "locks.name": "close",
    "locks.state": "released",
}  # fmt: skip
#: When the invented happened: nothing of it is due to go.
_AT: Final = datetime(2099, 1, 1, tzinfo=UTC)


def fill(warehouse: Warehouse) -> None:
    """Two closed months and an open one; what is left empty gets invented rows."""
    for month in MONTHS:
        state_month(
            warehouse, month,
            [
                *flattrs_of("m-1 anna 3\nm-1 bob 1\nnil bob 4\nnil cät 2\nrob eve 5\nrob anna 1"),
                Flattr("m-1", "dan", "d", undone=True), Flattr("m-1", "eve", "e", undone=True, clicked=False),
            ],
            duplicates=3,
        )  # fmt: skip
        pledge(warehouse, month, {MEMBER: 2_000_000, "nil": 3_330_000, "rob": 2_000_000, "oda": 2_000_000})
        flag(warehouse, Subject("member", member_id="rob"), month=month)
        if month == OCTOBER:
            adjustments.correct(warehouse, CREATOR, 250_000, against="fee", month=SEPTEMBER, reason="lost")
            creators.hold(warehouse, "bob", "account under review")
        if month != NOVEMBER:
            close(warehouse, month)
    adjustments.correct(warehouse, CREATOR, 150_000, against="fee", month=OCTOBER, reason="lost")
    for number in range(4):
        address = f"https://{CREATOR}.example/{number}"
        warehouse.insert(
            "things",
            {"thing_id": [bytes.fromhex(thing_id(CREATOR, address))], "creator_id": [CREATOR], "thing": [address]},
        )
    warehouse.insert("subscriptions_posted", {"month": [NOVEMBER], "flattrs": [0]})
    payment = next(one for one in all_payouts(warehouse, OCTOBER) if one.payment_id)
    (back,) = adjustments.write(warehouse, [adjustments.recredit(payment, 10_000, 10_000, "returned")])
    invent(
        warehouse,
        {
            **_SAID,
            "bank_answers.payment_id": payment.payment_id,
            "bank_answers.month": OCTOBER,
            "adjustments_taken.id": back.id,
        },
    )


def invent(warehouse: Warehouse, said: Mapping[str, Any]) -> None:
    """A row in each table that has none."""
    empty = warehouse.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%%MergeTree' "
        "AND total_rows = 0 ORDER BY name"
    )
    for (table,) in empty:
        columns = warehouse.rows(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = %(table)s "
            "AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')", {"table": table},
        )  # fmt: skip
        warehouse.insert(table, {name: [_said(f"{table}.{name}", kind, said)] for name, kind in columns})


def _said(name: str, kind: str, said: Mapping[str, Any]) -> Any:  # noqa: PLR0911 - one for each kind
    """What a column, ``table.name``, says in an invented row."""
    kind = re.sub(r"^SimpleAggregateFunction\(\w+, (.*)\)$", r"\1", kind)
    kind = re.sub(r"^LowCardinality\((.*)\)$", r"\1", kind)
    column = name.rpartition(".")[2]
    if kind.startswith("Array"):
        return [_said(name.removesuffix("s"), kind[6:-1], said)]
    if kind.startswith("Tuple"):
        fields = [field.split(" ", 1) for field in kind[6:-1].split(", ")]
        return tuple(_said(field, kind_of_field, said) for field, kind_of_field in fields)
    if name in said or column in said:
        return said.get(name, said.get(column))
    if kind.startswith("FixedString"):
        return b"\1" * int(kind[12:-1])
    for start, value in (
        ("Map", {"name": "1"}), ("Bool", 1), ("UInt", 1), ("Int", 1),
        ("DateTime", _AT), ("Date", _AT.date()),
    ):  # fmt: skip
        if kind.startswith(start):
            return value
    if kind.startswith("Enum"):
        return re.findall(r"'(\w+)'", kind)[1]
    return f"a {column}"


def tables(warehouse: Warehouse) -> dict[str, list[str]]:
    """The columns of every table."""
    columns: dict[str, list[str]] = {}
    for table, name in warehouse.rows(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND table IN "
        "(SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%%MergeTree') "
        "AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')"
    ):
        columns.setdefault(table, []).append(f"`{name}`")
    return columns


def clear(warehouse: Warehouse, names: Iterable[str]) -> None:
    """Take every row out of these tables."""
    for table in names:
        truncate = warehouse.command_per_shard if table in SHARDED else warehouse.command
        truncate(f"TRUNCATE TABLE {table}")


def copy(warehouse: Warehouse, many: Warehouse) -> None:
    """Give a cluster every row of a server, times and keys included."""
    address = urlsplit(warehouse.url)
    columns = tables(warehouse)
    clear(many, columns)
    for table, names in columns.items():
        # Some statements count rows that were not merged yet.
        warehouse.command(f"OPTIMIZE TABLE {table} FINAL")
        listed = ", ".join(names)
        many.command(
            f"INSERT INTO {table} ({listed}) SELECT {listed} FROM remote('{address.hostname}:{address.port}', "
            f"'{warehouse.database}', '{table}')"
        )
    many.sync()
