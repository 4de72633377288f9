"""The answers file: one JSON line per attempt, appended when it ends.

It is the client's independent record of what was sent and how it was answered, for judging the system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

_FLUSH_BYTES: Final = 64 * 1024
_encoder = msgspec.json.Encoder()


class Attempt(msgspec.Struct, omit_defaults=True, gc=False):
    """One attempt at a request. ``status`` 0 means no answer, see ``error``. Times are the machine's, in ms."""

    request: str
    attempt: int
    member_id: str
    url: str
    sent_at: int
    answered_at: int
    status: int
    body: str = ""
    answer: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


class AnswersFile:
    """Appends attempts to a file, in whole lines; closing it flushes and syncs."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._waiting = bytearray()

    def append(self, attempt: Attempt) -> None:
        """Add one line."""
        self._waiting += _encoder.encode(attempt) + b"\n"
        if len(self._waiting) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write buffered lines to the file."""
        if self._waiting:
            self._file.write(self._waiting)
            self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read_answers(folder: Path) -> Iterator[Attempt]:
    """Every attempt of a run, file by file. A last line truncated by a crash is skipped."""
    decoder = msgspec.json.Decoder(Attempt)
    for path in sorted(folder.glob("answers-*.ndjson")):
        for line in path.read_bytes().split(b"\n"):
            if line.endswith(b"}"):
                yield decoder.decode(line)
