# All that is asked of the disk goes through os, not through Path: there the tests answer with errors.
# ruff: noqa: PTH102, PTH112, PTH121
"""What the spool asks of a disk beyond writing: folders that outlive a power cut, reads around bad blocks."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import Final

DAMAGED: Final = ".damaged"
_BLOCK_BYTES: Final = 4096


def keep_as_damaged(path: Path) -> None:
    """Give a segment its second name. The version before wrote copies under such names: none is taken from it."""
    for number in itertools.count():
        name = path.with_suffix(f".{number}{DAMAGED}" if number else DAMAGED)
        try:
            os.link(path, name)
        except FileExistsError:
            if not os.path.samefile(path, name):
                continue
        return


def read_bytes(path: Path, start: int, length: int) -> bytes:
    """Up to ``length`` bytes; fewer only at the file's end."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while length and (piece := os.pread(file, length, start)):
            pieces.append(piece)
            start += len(piece)
            length -= len(piece)
        return b"".join(pieces)
    finally:
        close(file)


def read_around(path: Path, start: int, length: int) -> bytes:
    """All that the disk gives, block by block; zeros where it gives nothing."""
    pieces = []
    for at in range(start, start + length, _BLOCK_BYTES):
        wanted = min(_BLOCK_BYTES, start + length - at)
        with contextlib.suppress(OSError):
            pieces.append(read_bytes(path, at, wanted).ljust(wanted, b"\0"))
            continue
        pieces.append(bytes(wanted))
    return b"".join(pieces)


def make_folder(folder: Path, *, fsync: bool) -> None:
    """Make it and its parents, so that they are there after a power cut."""
    if not os.path.isdir(folder):
        make_folder(folder.parent, fsync=fsync)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
    if fsync:
        # One that was there may be of a process that was killed before this.
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Wait until the names in it are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        close(descriptor)


def close(file: int) -> None:
    """A descriptor is gone after close, whatever close says; what it says, fsync has said before."""
    with contextlib.suppress(OSError):
        os.close(file)
