"""Payouts as CSV and Parquet, and a payment order as a draft. Each writer gives the same bytes for the same month."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.payout.books.payment_order import Payment, PaymentOrder
from warehouse.payout.closed_months import Payout

#: How a formula begins in a spreadsheet: =, +, -, @, a tab, a line end.
_FORMULA = tuple("=+-@\t\r\n")
_PARQUET_TYPES = {"str": pa.string(), "int": pa.int64()}


def csv_text(lines: Iterable[Payout]) -> Iterator[str]:
    """The payouts as CSV, one string per line, header first; money in micro-units."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Payout)])
    for line in lines:
        writer.writerow(neutral(value) for value in astuple(line))
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def write_parquet(lines: Iterable[Payout], path: Path) -> None:
    """Write the payouts as a Parquet file with the columns of the CSV; numbers are int64, money in micro-units."""
    schema = pa.schema([(field.name, _PARQUET_TYPES[str(field.type)]) for field in fields(Payout)])
    rows = [astuple(line) for line in lines]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema]
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def draft_text(order: PaymentOrder) -> str:
    """A payment order as CSV, to look at before it is approved: no bank takes it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Payment.__struct_fields__)
    for payment in order.payments:
        writer.writerow(neutral(value) for value in msgspec.structs.astuple(payment))
    return text.getvalue()


def neutral(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front (OWASP)."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value
