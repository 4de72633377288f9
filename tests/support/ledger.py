"""The warehouse's merging rules in memory: what each table's engine makes of rows, and no more.

It stands in where a test runs thousands of histories. tests/streams/test_recovery.py holds the
same rows against a real warehouse.
"""

from __future__ import annotations

import struct
from typing import Any

from streams.clicks.pseudonyms import NOBODY
from streams.sink.flush_rows import STEPS, Rows
from tests.support.packed import values_of
from tests.support.recount import Counted

FlattrKey = tuple[int, str, str, bytes]


class Ledger:
    """flattrs by min and max, counts and progress by newest position, the rest by key."""

    def __init__(self) -> None:
        self.raw_flattrs: list[dict[str, Any]] = []
        self.newest: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.retimed: dict[tuple[int, int, bytes], dict[str, Any]] = {}
        self.labelled: dict[tuple[str, int, int], dict[str, Any]] = {}
        #: By member, creator, thing, click and whether it ends: time in ms of the earliest attempt, and the last month.
        self.orders: dict[tuple[str, str, bytes, bytes, int], tuple[int, int]] = {}

    def write(self, rows: Rows, steps: int = len(STEPS)) -> None:
        """Do the first ``steps`` steps of a flush."""
        for _, tables in STEPS[:steps]:
            for table in tables:
                for block in rows.of(table):
                    for values in zip(*map(values_of, block.values()), strict=True):
                        self._put(table, dict(zip(block, values, strict=True)))

    def _put(self, table: str, row: dict[str, Any]) -> None:
        if table == "flattrs":
            self.raw_flattrs.append(row)
        elif table == "retimed":
            self.retimed[row["month"], row["partition"], row["click_key"]] = row
        elif table == "subscription_orders":
            order = (row["member_id"], row["creator_id"], row["thing_id"], row["click_id"], row["ends"])
            at_ms, until = self.orders.get(order, (1 << 44, 0))
            self.orders[order] = (min(at_ms, row["version"] >> 20), max(until, row["until"]))
        elif table in {"duplicates", "undos", "late", "rejected"}:
            self.labelled[table, row["partition"], row["position"]] = row
        elif table != "things":
            key = (table, *(row.get(name) for name in ("month", "member_id", "creator_id", "thing_id", "partition")))
            if key not in self.newest or row["position"] >= self.newest[key]["position"]:
                self.newest[key] = row

    def progress(self, partition: int) -> dict[str, Any] | None:
        """The progress row of a partition."""
        return self.newest.get(("progress", None, None, None, None, partition))

    def packed(self, month: int, partition: int) -> list[bytearray]:
        """What flattrs_of_partitions.sql gives, of all rows: each column's bytes."""
        rows = [row for row in self.raw_flattrs if row["month"] == month]
        seen = (0 if row["first_position"] == (1 << 64) - 1 else 1 << 63 for row in rows)
        columns = (
            (struct.pack("<QQ", *NOBODY.hash(row["member_id"])) for row in rows),
            (struct.pack("<QQ", *NOBODY.hash(row["creator_id"])) for row in rows),
            (row["thing_id"] for row in rows),
            (struct.pack("<Q", row["version"] | bit) for row, bit in zip(rows, seen, strict=True)),
            (struct.pack("<Q", partition) for _ in rows),
        )
        return [bytearray().join(column) for column in columns]

    def retimed_packed(self, month: int, partition: int) -> list[bytearray]:
        """What retimed_of_partitions.sql gives."""
        rows = [row for (of, number, _), row in self.retimed.items() if (of, number) == (month, partition)]
        columns = (
            (row["click_key"] for row in rows),
            *([struct.pack("<Q", row[name]) for row in rows] for name in ("word", "position", "partition")),
        )
        return [bytearray().join(column) for column in columns]

    def newer(self, month: int, position: int) -> list[tuple[Any, ...]]:
        """What flattrs_after.sql gives of one partition."""
        names = ("member_id", "creator_id", "thing_id", "version", "first_position", "position")
        return [
            tuple(row[name] for name in names)
            for row in self.raw_flattrs
            if row["month"] == month and row["position"] > position
        ]

    def flattrs(self) -> dict[FlattrKey, tuple[int, int, bytes]]:
        """Merged rows: first position, version, click id."""
        merged: dict[FlattrKey, tuple[int, int, bytes]] = {}
        for row in self.raw_flattrs:
            key = (row["month"], row["member_id"], row["creator_id"], row["thing_id"])
            first, version, click_id = merged.get(key, ((1 << 64) - 1, 0, bytes(16)))
            merged[key] = (
                min(first, row["first_position"]),
                max(version, row["version"]),
                max(click_id, row["click_id"]),
            )
        return merged

    def counted(self) -> Counted:
        """What the oracle is compared with."""
        counted = Counted({(m, member, creator, thing.hex()): not version >> 19 & 1
                           for (m, member, creator, thing), (_, version, _) in self.flattrs().items()})  # fmt: skip
        for key, row in self.newest.items():
            if key[0] != "progress":
                continue
            for index, month in enumerate(row["tallies.month"]):
                for name in ("accepted", "counted", "duplicate", "undo", "rejected", "late"):
                    if row[f"tallies.{name}"][index]:
                        counted.tallies[month, name] += row[f"tallies.{name}"][index]
        return counted

    def counts(self, table: str, *names: str) -> dict[tuple[Any, ...], int]:
        """A table of counts, summed over partitions, without zeros."""
        sums: dict[tuple[Any, ...], int] = {}
        for key, row in self.newest.items():
            if key[0] == table:
                group = tuple(row[name].hex() if name == "thing_id" else row[name] for name in names)
                sums[group] = sums.get(group, 0) + row["flattrs"]
        return {group: count for group, count in sums.items() if count}
