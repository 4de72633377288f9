"""CSV that leaves the house: ids in it are what members clicked into being, so no cell may be a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

#: How a formula begins in a spreadsheet.
_FORMULA: Final = tuple("=+-@\t\r\n")


def csv_pieces(header: Sequence[str], rows: Iterable[Iterable[object]], piece_lines: int = 1000) -> Iterator[str]:
    """A file in pieces of at most ``piece_lines`` lines, header first, lines ended by LF."""
    yield csv_lines([header])
    waiting = iter(rows)
    while lines := list(islice(waiting, piece_lines)):
        yield csv_lines(lines)


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Lines of a file, ended by LF."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([neutral(value) for value in row] for row in rows)
    return text.getvalue()


def neutral(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe in front (OWASP)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
