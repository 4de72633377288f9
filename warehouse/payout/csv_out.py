"""CSV that leaves the house: ids in it are what members clicked into being, so no cell may be a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

#: How a formula begins in a spreadsheet.
_FORMULA: Final = tuple("=+-@\t\r\n")


def csv_pieces(header: Sequence[str], rows: Iterable[Iterable[object]], piece_lines: int = 1000) -> Iterator[str]:
    """A file in pieces of at most ``piece_lines`` lines, header first, lines ended by LF."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for number, row in enumerate(rows, start=1):
        writer.writerow(neutral(value) for value in row)
        if number % piece_lines == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def neutral(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front (OWASP)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
