"""The month that `flattr bench reads` reads: filled at once, then added to at a fixed rate by a process of its own.

    python -m benchmarks.reads_month clickhouse://127.0.0.1:9000/bench

The process states what the stream would: a flush of all its tables every tenth of a second, once a second
the ends of the log. The watched creator's count is the time at which it was stated, in microseconds of the
monotonic clock, which all processes of a machine share: whoever hears the count knows how old it is.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

from ingest.contract.month import month_of
from ingest.contract.position import position
from ingest.runtime.clock import system_clock
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate

MEMBERS, CREATORS, THINGS, PARTITIONS = 500_000, 50_000, 400_000, 12
LISTENED: Final = "watched"
FLUSH_S: Final = 0.1
FLUSH_ROWS: Final = 100
_CHUNK: Final = 1_000_000
_FIRST_OFFSET: Final = 1 << 24

_FLATTRS = """
INSERT INTO flattrs
    (month, member_id, creator_id, thing_id, first_position, position, version, click_id, site_id, clicked_at)
WITH toUInt64(pow(modulo(xxh3(number), 1000003) / 1000003, 3) * {things}) AS thing
SELECT
    {month}, concat('m', toString(modulo(xxh3(number, 1), {members}))),
    concat('c', toString(modulo(thing, {creators}))),
    MD5(toString(thing)), number, number, bitShiftLeft(toUInt64({at_ms}), 20), MD5(concat('k', toString(number))), 's',
    fromUnixTimestamp64Milli(toInt64({at_ms} - modulo(number, 86400000)), 'UTC')
FROM numbers({start}, {count})
"""
_COUNTS = (
    (
        "INSERT INTO counts_by_creator (month, creator_id, partition, flattrs, position) SELECT month, creator_id, "
        "modulo(murmurHash3_32(member_id), 12) AS p, count(), max(position) FROM flattrs GROUP BY month, creator_id, p"
    ),
    (
        "INSERT INTO counts_by_thing (month, creator_id, thing_id, partition, flattrs, position) "
        "SELECT month, creator_id, thing_id, modulo(murmurHash3_32(member_id), 12) AS p, count(), max(position) "
        "FROM flattrs GROUP BY month, creator_id, thing_id, p"
    ),
    (
        "INSERT INTO counts_by_member (month, member_id, creator_id, flattrs, position) SELECT month, member_id, "
        "creator_id, count(), max(position) FROM flattrs GROUP BY month, member_id, creator_id"
    ),
    (
        "INSERT INTO things (thing_id, creator_id, thing) SELECT thing_id, any(creator_id), "
        "concat('https://x.example/', lower(hex(thing_id))) FROM flattrs GROUP BY thing_id"
    ),
    # An hour of the log's ends, as the lag reads them.
    (
        "INSERT INTO log_ends (partition, seen_at, end_position) SELECT number % 12, "
        "now64(3) - toIntervalSecond(intDiv(number, 12)), 1 FROM numbers(12 * 3600)"
    ),
)


def fill(warehouse: Warehouse, month: int, flattrs: int) -> None:
    """A month of so many flattrs and its counts, in an empty database."""
    migrate(warehouse)
    for start in range(0, flattrs, _CHUNK):
        values = {"month": month, "at_ms": system_clock(), "start": start, "count": min(_CHUNK, flattrs - start)}
        warehouse.command(_FLATTRS.format(**values, things=THINGS, members=MEMBERS, creators=CREATORS))
    for statement in _COUNTS:
        warehouse.command(statement)


def settle(warehouse: Warehouse) -> dict[str, int]:
    """Merge what was filled at once, which a month that grew has behind it; parts left, by table.

    Without this the first minutes measure the merging of ten million rows beside the reads.
    """
    for table in active_parts(warehouse):
        warehouse.command(f"OPTIMIZE TABLE {table} FINAL")
    return active_parts(warehouse)


def active_parts(warehouse: Warehouse) -> dict[str, int]:
    """Parts of each table that is read."""
    rows = warehouse.rows(
        "SELECT table, count() FROM system.parts WHERE active AND database = currentDatabase() "
        "AND (table LIKE 'counts%%' OR table IN ('flattrs', 'things')) GROUP BY table ORDER BY table"
    )
    return {table: int(count) for table, count in rows}


class Writer:
    """States ``FLUSH_ROWS`` flattrs with all that belongs to them; one flush of one worker."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._offset = _FIRST_OFFSET

    def flush(self, month: int) -> None:
        """Flattrs, counts, then progress, as the stream orders them."""
        now = system_clock()
        self._offset += 1
        rows = FLUSH_ROWS
        at, months = datetime.fromtimestamp(now / 1000, UTC), [month] * rows
        members = [f"m{random.randrange(MEMBERS)}" for _ in range(rows)]
        creators = [LISTENED, *(f"c{random.randrange(CREATORS)}" for _ in range(rows - 1))]
        things = [random.randbytes(16) for _ in range(rows)]
        where = [position(1, self._offset, index) for index in range(rows)]
        partitions = [PARTITIONS - 1, *(random.randrange(PARTITIONS) for _ in range(rows - 1))]
        ones = [1] * rows
        self._insert("things", thing_id=things, creator_id=creators, thing=["https://x.example/new"] * rows)
        self._insert(
            "flattrs", month=months, member_id=members, creator_id=creators, thing_id=things, first_position=where,
            position=where, version=[now << 20] * rows, click_id=things, site_id=["s"] * rows, clicked_at=[at] * rows,
        )  # fmt: skip
        counts: dict[str, Any] = {"month": months, "creator_id": creators, "position": where}
        stated = [time.monotonic_ns() // 1000, *([1] * (rows - 1))]
        self._insert("counts_by_creator", **counts, partition=partitions, flattrs=stated)
        self._insert("counts_by_thing", **counts, partition=partitions, thing_id=things, flattrs=ones)
        self._insert("counts_by_member", **counts, member_id=members, flattrs=ones)
        each = [at] * PARTITIONS
        self._insert(
            "progress", partition=range(PARTITIONS), position=[position(1, self._offset, 65535)] * PARTITIONS,
            record_at=each, written_at=each,
        )  # fmt: skip

    def log_ends(self) -> None:
        """Where the partitions' logs end: at what is counted."""
        at = datetime.fromtimestamp(system_clock() / 1000, UTC)
        ends = [position(1, self._offset + 1, 0)] * PARTITIONS
        self._insert("log_ends", partition=range(PARTITIONS), seen_at=[at] * PARTITIONS, end_position=ends)

    def _insert(self, table: str, **columns: Any) -> None:  # noqa: ANN401 - columns of whatever the table takes
        self._warehouse.insert(table, {name: list(values) for name, values in columns.items()})


def write(url: str) -> None:
    """At the fixed rate, until killed: a flush that comes late is not made up for."""
    writer = Writer(Warehouse(url))
    due = time.monotonic()
    for number in range(sys.maxsize):
        writer.flush(month_of(system_clock()))
        if number % round(1 / FLUSH_S) == 0:
            writer.log_ends()
        due = max(due + FLUSH_S, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0)


if __name__ == "__main__":
    write(sys.argv[1])
