"""The answers file: one JSON line per attempt, appended as it ends and never changed.

It is the client's testimony: what was sent, what came back, what was promised. Whoever judges the
system reads it; nobody who runs the system writes it.
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
    """One request sent once. ``status`` 0 means no answer: ``error`` says why. Times are the machine's, in ms."""

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
    """Append attempts to a file. Buffered by lines; closing it writes the rest and syncs."""

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
        """Hand what waits to the kernel."""
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
    """Every attempt of a run, file after file. A last line cut short by a crash is passed over."""
    decoder = msgspec.json.Decoder(Attempt)
    for path in sorted(folder.glob("answers-*.ndjson")):
        for line in path.read_bytes().split(b"\n"):
            if line.endswith(b"}"):
                yield decoder.decode(line)
