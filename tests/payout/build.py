"""A month in the warehouse, as the stream would have stated it, from a few lines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from aiokafka.partitioner import murmur2

from ingest.contract.month import month_start_ms
from ingest.contract.position import position
from ingest.contract.thing import thing_id
from ingest.runtime.clock import Clock
from warehouse.payout.close.months import cutoff_ms
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.client import Warehouse

PARTITIONS = 4
NEVER = (1 << 64) - 1
UNDO_BIT = 1 << 19


@dataclass(frozen=True)
class Flattr:
    """One (member, thing); ``undone`` took it back, ``clicked`` False is an undo without a flattr."""

    member_id: str
    creator_id: str
    thing: str
    undone: bool = False
    clicked: bool = True


def partition_of(member_id: str) -> int:
    """Kafka's partition of a member."""
    return int((murmur2(member_id.encode()) & 0x7FFFFFFF) % PARTITIONS)


def flattrs_of(table: str) -> list[Flattr]:
    """Read lines ``member creator count``: so many things of that creator, each flattred once."""
    rows = (line.split() for line in table.strip().splitlines())
    return [Flattr(m, c, f"https://{c}.example/{n}") for m, c, count in rows for n in range(int(count))]


def state_month(warehouse: Warehouse, month: int, flattrs: Iterable[Flattr], *, duplicates: int = 0) -> None:
    """Write flattrs, counts and progress as the stream does; each clicked flattr is one offset of its partition."""
    rows = list(flattrs)
    offsets: Counter[int] = Counter(_offsets_so_far(warehouse))
    placed = []
    for row in rows:
        partition = partition_of(row.member_id)
        placed.append((row, partition, position(0, offsets[partition], 0)))
        offsets[partition] += 1
    at_ms = month_start_ms(month)
    if placed:
        warehouse.insert(
            "flattrs",
            {
                "month": [month] * len(rows),
                "member_id": [row.member_id for row in rows],
                "creator_id": [row.creator_id for row in rows],
                "thing_id": [bytes.fromhex(thing_id(row.creator_id, row.thing)) for row in rows],
                "first_position": [at if row.clicked else NEVER for row, _, at in placed],
                "position": [at for _, _, at in placed],
                "version": [at_ms << 20 | (UNDO_BIT if row.undone else 0) for row in rows],
                "click_id": [n.to_bytes(16, "big") if row.clicked else bytes(16) for n, row in enumerate(rows, 1)],
                "site_id": ["site" for _ in rows],
                "clicked_at": [datetime.fromtimestamp(at_ms / 1000, UTC)] * len(rows),
            },
        )
    _state_counts(warehouse, month, [row for row in rows if row.clicked and not row.undone])
    _state_progress(warehouse, month, rows, offsets, duplicates)


def _offsets_so_far(warehouse: Warehouse) -> dict[int, int]:
    rows = warehouse.rows("SELECT partition, max(position) FROM progress GROUP BY partition")
    return {partition: (at >> 16) + 1 for partition, at in rows}


def _state_counts(warehouse: Warehouse, month: int, active: list[Flattr]) -> None:
    by_member = Counter((row.member_id, row.creator_id) for row in active)
    by_creator = Counter((row.creator_id, partition_of(row.member_id)) for row in active)
    by_thing = Counter((row.creator_id, row.thing, partition_of(row.member_id)) for row in active)
    tables: dict[str, dict[str, list[Any]]] = {
        "counts_by_member": {
            "member_id": [member for member, _ in by_member],
            "creator_id": [creator for _, creator in by_member],
            "flattrs": list(by_member.values()),
        },
        "counts_by_creator": {
            "creator_id": [creator for creator, _ in by_creator],
            "partition": [partition for _, partition in by_creator],
            "flattrs": list(by_creator.values()),
        },
        "counts_by_thing": {
            "creator_id": [creator for creator, _, _ in by_thing],
            "thing_id": [bytes.fromhex(thing_id(creator, thing)) for creator, thing, _ in by_thing],
            "partition": [partition for _, _, partition in by_thing],
            "flattrs": list(by_thing.values()),
        },
    }
    for table, columns in tables.items():
        count = len(columns["flattrs"])
        if count:
            warehouse.insert(table, {"month": [month] * count, **columns, "position": [1] * count})


def _state_progress(
    warehouse: Warehouse, month: int, rows: list[Flattr], offsets: Mapping[int, int], duplicates: int
) -> None:
    tallies: dict[int, dict[int, list[int]]] = defaultdict(dict)
    names = "tallies.month, tallies.accepted, tallies.counted, tallies.duplicate, tallies.undo"
    newest = f"SELECT partition, {names} FROM progress FINAL"
    for partition, *arrays in warehouse.rows(newest):
        for number, *line in zip(*arrays, strict=True):
            tallies[partition][number] = line
    for partition in range(PARTITIONS):
        own = [row for row in rows if partition_of(row.member_id) == partition]
        clicked = sum(row.clicked for row in own)
        undos = sum(row.undone for row in own)
        extra = duplicates if partition == 0 else 0
        tallies[partition][month] = [clicked + undos + extra, clicked, extra, undos]
        lines = sorted(tallies[partition].items())
        written_at = datetime.fromtimestamp(cutoff_ms(month, 0) / 1000, UTC)
        warehouse.insert(
            "progress",
            {
                "partition": [partition],
                "position": [position(0, offsets.get(partition, 0), 65535)],
                "record_at": [written_at],
                "written_at": [written_at],
                "tallies.month": [[number for number, _ in lines]],
                **{
                    f"tallies.{name}": [[line[index] for _, line in lines]]
                    for index, name in enumerate(("accepted", "counted", "duplicate", "undo"))
                },
                "tallies.rejected": [[0 for _ in lines]],
                "tallies.late": [[0 for _ in lines]],
            },
        )


def pledge(warehouse: Warehouse, month: int, amounts_micro: Mapping[str, int], *, unpaid: Iterable[str] = ()) -> None:
    """Write pledges as one import."""
    version = int(warehouse.rows("SELECT max(version) FROM pledge_imports")[0][0]) + 1
    members = list(amounts_micro)
    not_paid = set(unpaid)
    warehouse.insert(
        "pledges",
        {
            "month": np.full(len(members), month, np.uint32).tolist(),
            "member_id": members,
            "version": [version] * len(members),
            "amount_micro": list(amounts_micro.values()),
            "currency": ["EUR"] * len(members),
            "paid": [member not in not_paid for member in members],
        },
    )
    warehouse.insert(
        "pledge_imports",
        {
            "version": [version],
            "sha256": [f"built {version}"],
            "rows": [len(members)],
            "months": [[month]],
            "imported_at": [datetime(2026, 1, 1, tzinfo=UTC)],
        },
    )


def closing(**changes: object) -> CloseSettings:
    """Settings of the tests: everybody is paid from a cent on, unless told otherwise."""
    return CloseSettings.model_validate({"close_claim_required": False, "close_minimum_minor": 1, **changes})


def clock_after(month: int, settings: CloseSettings) -> Clock:
    """A clock that stands where the month may be closed."""
    at_ms = cutoff_ms(month, settings.grace_s) + settings.close_settle_s * 1000
    return lambda: at_ms


def drained() -> dict[int, int]:
    """A log that has nothing left to count."""
    return dict.fromkeys(range(PARTITIONS), 0)
