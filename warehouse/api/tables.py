"""Tables in pieces, as CSV or Parquet: memory is bounded by one page, however long the table is."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.payout.csv_out import csv_lines

Row = tuple[object, ...]


class Form(StrEnum):
    """How a table is written."""

    CSV = "csv"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """For the header Content-Type."""
        return "text/csv" if self is Form.CSV else "application/vnd.apache.parquet"


_TYPES: Final = {str: pa.string(), int: pa.int64()}


class _Sink(io.RawIOBase):
    """Collects what is written, to be taken away piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer, as in io
        """Collect the bytes."""
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


async def written(
    form: Form, columns: Sequence[tuple[str, type]], pages: AsyncIterator[Sequence[Row]]
) -> AsyncIterator[bytes]:
    """The pieces of a table with these columns (name, ``str`` or ``int``).

    Text that begins like a formula is neutral in the CSV (``warehouse/payout/csv_out.py``) and unchanged in Parquet,
    which no spreadsheet evaluates.
    """
    if form is Form.CSV:
        yield csv_lines([[name for name, _ in columns]]).encode()
        async for rows in pages:
            yield csv_lines(rows).encode()
        return
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns])
    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        async for rows in pages:
            await asyncio.to_thread(_write, writer, schema, rows)
            yield sink.take()
    yield sink.take()


def _write(writer: pq.ParquetWriter, schema: pa.Schema, rows: Sequence[Row]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    if columns:
        writer.write_table(pa.table(columns, schema=schema))
