"""The hash of a table: SHA-256 over the sorted SHA-256 of its lines, whatever the order of reading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


class Digest:
    """SHA-256 over the sorted SHA-256 of lines: the proof's digest of a table."""

    def __init__(self) -> None:
        self._leaves: list[str] = []

    def add(self, line: str) -> None:
        """One line, with its newline."""
        self._leaves.append(hashlib.sha256(line.encode()).hexdigest())

    def hexdigest(self) -> str:
        """The digest of all lines."""
        return hashlib.sha256("".join(sorted(self._leaves)).encode()).hexdigest()


def text_line(values: Iterable[object]) -> str:
    """A line as it is hashed: fields by tab, arrays of numbers in brackets."""
    return "\t".join(_text(value) for value in values) + "\n"


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(str, value))}]"
    return str(value)
