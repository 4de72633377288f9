"""CSV that leaves the house: ids in it are what members clicked into being, so no cell may be a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

#: How a formula begins in a spreadsheet. The wide signs are signs, too, where people write Japanese.
_SIGNS: Final = "=+-@\uff1d\uff0b\uff0d\uff20\t\r\n"
#: Where one would begin: at the beginning, or behind a semicolon, which ends a cell where the comma is for decimals.
_FORMULA: Final = re.compile(rf"(^|;)(?=[ \u00a0\u3000]*[{re.escape(_SIGNS)}])")
_SUSPECT: Final = frozenset(f"{_SIGNS} \u00a0\u3000")


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
    # Most cells need no closer look, and an export has a million.
    if not isinstance(value, str) or (value[:1] not in _SUSPECT and ";" not in value):
        return value
    return _FORMULA.sub(r"\1'", value)
