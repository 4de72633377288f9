"""Where a command's result goes, and what members wrote in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def write_out(output: Path | None, content: bytes) -> None:
    """To the file, or to standard output."""
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()  # here, where a reader who left is told from a defect
    else:
        output.write_bytes(content)


def printable(text: str) -> str:
    """The text with what is not printable escaped: control characters must not reach a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def cells(*values: str) -> list[Text]:
    """Cells of a table, as they are written: names are what members clicked, and no markup of a table's."""
    from rich.text import Text

    return [Text(printable(value)) for value in values]
