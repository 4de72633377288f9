"""Payouts as CSV and Parquet, and a payment order as a draft. Each writer gives the same bytes for the same month."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.payout.books.payment_order import Payment, PaymentOrder
from warehouse.payout.closed_months import Payout
from warehouse.payout.csv_out import csv_pieces

_PARQUET_TYPES = {"str": pa.string(), "int": pa.int64()}


def csv_text(lines: Iterable[Payout]) -> Iterator[str]:
    """The payouts as CSV, in pieces, header first; money in micro-units."""
    return csv_pieces([field.name for field in fields(Payout)], (astuple(line) for line in lines))


def write_parquet(lines: Iterable[Payout], path: Path) -> None:
    """Write the payouts as a Parquet file with the columns of the CSV; numbers are int64, money in micro-units."""
    schema = pa.schema([(field.name, _PARQUET_TYPES[str(field.type)]) for field in fields(Payout)])
    rows = [astuple(line) for line in lines]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema]
    with path.open("wb") as file:
        pq.write_table(pa.table(columns, schema=schema), file, compression="zstd")


def draft_text(order: PaymentOrder) -> str:
    """A payment order as CSV, to look at before it is approved: no bank takes it."""
    return "".join(csv_pieces(Payment.__struct_fields__, map(msgspec.structs.astuple, order.payments)))
