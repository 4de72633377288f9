"""The digest of a table, independent of the order in which its lines are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


class Digest:
    """SHA-256 of the sorted, hexadecimal SHA-256 hashes of the lines, as the proof has it for each table."""

    def __init__(self) -> None:
        self._leaves: list[str] = []

    def add(self, line: str) -> None:
        """Add a line, including its newline."""
        self._leaves.append(hashlib.sha256(line.encode()).hexdigest())

    def hexdigest(self) -> str:
        """The digest of all lines."""
        return hashlib.sha256("".join(sorted(self._leaves)).encode()).hexdigest()


def text_line(values: Iterable[object]) -> str:
    """A line in the form that is hashed: fields separated by tabs, arrays of numbers in brackets."""
    return "\t".join(_text(value) for value in values) + "\n"


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(str, value))}]"
    return str(value)
