"""Rows as the stream writes them, for the tests of reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from ingest.contract.position import position
from warehouse.storage.client import Warehouse


def at(ms: int) -> datetime:
    """A time in ms for the driver."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def counted_until(offset: int, epoch: int = 0) -> int:
    """The progress position of a partition that has counted the record at ``offset``."""
    return position(epoch, offset, 65535)


def put_creator_counts(warehouse: Warehouse, rows: Iterable[tuple[int, str, int, int, int]]) -> None:
    """Rows of month, creator, partition, flattrs, position."""
    _put(warehouse, "counts_by_creator", ("month", "creator_id", "partition", "flattrs", "position"), rows)


def put_thing_counts(warehouse: Warehouse, rows: Iterable[tuple[int, str, str, int, int, int]]) -> None:
    """Rows of month, creator, thing id in hex, partition, flattrs, position."""
    raw = [(month, creator, bytes.fromhex(thing), *rest) for month, creator, thing, *rest in rows]
    _put(warehouse, "counts_by_thing", ("month", "creator_id", "thing_id", "partition", "flattrs", "position"), raw)


def put_member_counts(warehouse: Warehouse, rows: Iterable[tuple[int, str, str, int, int]]) -> None:
    """Rows of month, member, creator, flattrs, position."""
    _put(warehouse, "counts_by_member", ("month", "member_id", "creator_id", "flattrs", "position"), rows)


def put_things(warehouse: Warehouse, rows: Iterable[tuple[str, str, str]]) -> None:
    """Rows of thing id in hex, creator, address."""
    _put(warehouse, "things", ("thing_id", "creator_id", "thing"), [(bytes.fromhex(t), c, u) for t, c, u in rows])


def put_progress(warehouse: Warehouse, partition: int, position: int, record_at_ms: int) -> None:
    """One partition's progress, without tallies."""
    row = (partition, position, at(record_at_ms), at(record_at_ms))
    _put(warehouse, "progress", ("partition", "position", "record_at", "written_at"), [row])


def put_log_end(warehouse: Warehouse, partition: int, seen_at_ms: int, end_offset: int, epoch: int = 0) -> None:
    """Where a partition's log ended at a moment."""
    row = (partition, at(seen_at_ms), position(epoch, end_offset, 0))
    _put(warehouse, "log_ends", ("partition", "seen_at", "end_position"), [row])


def _put(warehouse: Warehouse, table: str, names: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    warehouse.insert(table, dict(zip(names, zip(*rows, strict=True), strict=True)))


def put_flattr(  # noqa: PLR0913 - one keyword for each column that a test varies
    warehouse: Warehouse,
    *,
    month: int = 202611,
    member: str = "m-1",
    creator: str = "anna",
    thing: str,
    click_id: UUID | None,
    position: int,
    clicked_at_ms: int = 0,
    undo: bool = False,
) -> None:
    """A row of ``flattrs``; without ``click_id`` one that only moves the version."""
    _put(
        warehouse,
        "flattrs",
        ("month", "member_id", "creator_id", "thing_id", "first_position", "position", "version", "click_id",
         "site_id", "clicked_at"),
        [(
            month, member, creator, bytes.fromhex(thing), position, position, position << 20 | undo << 19,
            click_id.bytes if click_id else bytes(16), "s", at(clicked_at_ms),
        )],
    )  # fmt: skip


def put_refused(warehouse: Warehouse, table: str, click_id: UUID, position: int, *, thing: str) -> None:
    """A row of ``duplicates`` or ``undos`` of member m-1 in partition 0 and November 2026."""
    row = (202611, 0, position, click_id.bytes, "m-1", bytes.fromhex(thing))
    _put(warehouse, table, ("month", "partition", "position", "click_id", "member_id", "thing_id"), [row])
