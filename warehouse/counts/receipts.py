"""Receipts: what became of a click, by its id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ingest.contract.position import offset_of
from warehouse.storage.client import Row, Warehouse, named


class Status(StrEnum):
    """What became of a click. If its id was sent more than once, the first of these that applies."""

    COUNTED = "counted"
    UNDO = "undo"
    LATE = "late"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    #: acknowledged, not yet read by the stream
    ACCEPTED = "accepted"


@dataclass(frozen=True)
class Receipt:
    """What became of a click; fields that do not apply are None.

    ``stands``: for a counted click, whether its flattr is still active.
    ``duplicate_of``: the click id that was counted instead.
    """

    status: Status
    month: int | None = None
    offset: int | None = None
    thing_id: str | None = None
    stands: bool | None = None
    duplicate_of: str | None = None
    reason: str | None = None
    detail: str | None = None


def find(warehouse: Warehouse, click_id: str, months: Sequence[int]) -> Receipt | None:
    """Look a click up in the tables of these months; None if it is in none of them."""
    rows = warehouse.rows(named("receipt"), {"click_id": click_id, "months": tuple(months)})
    if not rows:
        return None
    order = list(Status)
    first = min(rows, key=lambda row: (order.index(Status(row[0])), row[2]))
    return _receipt(warehouse, first)


def _receipt(warehouse: Warehouse, row: Row) -> Receipt:
    status, month, position, member_id, thing_id, stands, reason, detail = row
    duplicate_of = None
    if status == Status.DUPLICATE:
        params = {"month": month, "member_id": member_id, "thing_id": thing_id}
        counted = warehouse.rows(named("counted_click"), params)
        duplicate_of = str(counted[0][0]) if counted else None
    return Receipt(
        Status(status),
        month,
        offset_of(position),
        thing_id or None,
        bool(stands) if status == Status.COUNTED else None,
        duplicate_of,
        reason or None,
        detail or None,
    )


def awaits_counting(warehouse: Warehouse, partition: int, offset: int) -> bool:
    """Whether the stream has yet to read this record."""
    rows = warehouse.rows(named("counted_until"), {"partition": partition})
    return not rows or offset_of(rows[0][0] + 1) <= offset
