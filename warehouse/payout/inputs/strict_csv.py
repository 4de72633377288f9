"""CSV files as finance brings them: all rows or none, and every bad row named by line and reason."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from warehouse.payout.errors import PayoutError, PayoutRefused

T = TypeVar("T")

_SHOWN_MAX: Final = 100
_CELL_LENGTH_MAX: Final = 4096


class ImportRefused(PayoutRefused):
    """The file has bad rows: ``problems`` names each by line and reason, and nothing was imported."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN_MAX])
        more = f"\n  and {len(problems) - _SHOWN_MAX} more" if len(problems) > _SHOWN_MAX else ""
        super().__init__(f"Nothing was imported from {name}. Correct these rows:\n{shown}{more}")
        self.problems = list(problems)


def read_file(path: Path) -> tuple[bytes, str]:
    """A file's bytes and its text. Raises ``PayoutRefused`` when it cannot be read, ``ImportRefused`` unless UTF-8."""
    content = read_bytes(path)
    return content, decode(path.name, content)


def read_bytes(path: Path, bytes_max: int = -1) -> bytes:
    """A file's bytes, at most one more than ``bytes_max``. Raises ``PayoutRefused`` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1 if bytes_max >= 0 else -1)
    except OSError as error:
        raise PayoutRefused(f"{path} cannot be read: {error.strerror}. Check the path.") from None


def decode(name: str, content: bytes) -> str:
    """A file's text. Raises ``ImportRefused`` unless it is UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImportRefused(name, [f"byte {error.start}: not UTF-8; save the file as UTF-8"]) from None


def read_rows(
    text: str, columns: Sequence[str], read: Callable[[dict[str, str]], T], said: Callable[[T], str] = lambda _: ""
) -> tuple[list[tuple[int, T]], list[str]]:
    """What ``read`` makes of each row, with the row's line, and a ``line N: reason`` for each that it refuses.

    ``read`` gets the cells by column, blanks around them cut, and refuses with ``ValueError`` or ``PayoutError``.
    Columns may stand in any order; a row has as many cells as the header; empty lines are skipped. ``said`` is what a
    row is about, such as "mia in 2026-11": two rows about the same are refused; empty: any number of rows.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[tuple[int, T]] = []
    problems: list[str] = []
    about: dict[str, int] = {}
    begun = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if sorted(header) != sorted(columns):
            return [], [f"line 1: the header is {','.join(header)[:200]!r}; the columns are {','.join(columns)}"]
        begun = reader.line_num + 1
        for cells in reader:
            line, begun = begun, reader.line_num + 1
            if not cells:
                continue
            try:
                row = read(_row(header, cells))
            except (ValueError, PayoutError) as error:
                problems.append(f"line {line}: {error}")
                continue
            first = about.setdefault(said(row) or f"line {line}", line)
            if first == line:
                found.append((line, row))
            else:
                problems.append(f"line {line}: line {first} already has {said(row)}")
    except csv.Error as error:
        problems.append(f"line {begun}: not valid CSV: {error}; a quote that is not closed takes in the rows below it")
    if not found and not problems:
        problems = ["line 2: no rows below the header"]
    return found, problems


def _row(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, but the header has {len(header)}")
    long = next((name for name, cell in zip(header, cells, strict=True) if len(cell) > _CELL_LENGTH_MAX), None)
    if long is not None:
        raise ValueError(f"{long} is longer than {_CELL_LENGTH_MAX} characters")
    return dict(zip(header, (cell.strip() for cell in cells), strict=True))
