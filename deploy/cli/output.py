"""Where a command's result goes."""

from __future__ import annotations

import sys
from pathlib import Path


def write_out(output: Path | None, content: bytes) -> None:
    """To the file, or to standard output."""
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        output.write_bytes(content)
