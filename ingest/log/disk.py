# All disk operations go through os, not Path, so that tests can inject errors there.
# ruff: noqa: PTH102, PTH112, PTH121
"""Disk operations of the spool: folders that survive a power cut, and reads around bad blocks."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import Final

DAMAGED: Final = ".damaged"
_BLOCK_BYTES: Final = 4096


def keep_as_damaged(path: Path) -> None:
    """Hard-link a segment to a free ``.damaged`` name. The previous version wrote copies there; keep those."""
    for number in itertools.count():
        name = path.with_suffix(f".{number}{DAMAGED}" if number else DAMAGED)
        try:
            os.link(path, name)
        except FileExistsError:
            if not os.path.samefile(path, name):
                continue
        return


def read_bytes(path: Path, start: int, length: int) -> bytes:
    """Read up to ``length`` bytes; fewer only at the end of the file."""
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
    """Read block by block, with zeros for the blocks that cannot be read."""
    pieces = []
    for at in range(start, start + length, _BLOCK_BYTES):
        wanted = min(_BLOCK_BYTES, start + length - at)
        with contextlib.suppress(OSError):
            pieces.append(read_bytes(path, at, wanted).ljust(wanted, b"\0"))
            continue
        pieces.append(bytes(wanted))
    return b"".join(pieces)


def make_folder(folder: Path, *, fsync: bool) -> None:
    """Create a folder and its parents; with ``fsync``, so that they survive a power cut."""
    if not os.path.isdir(folder):
        make_folder(folder.parent, fsync=fsync)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
    if fsync:
        # Even if the folder existed: a process killed at this point may have created it.
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        close(descriptor)


def close(file: int) -> None:
    """Close a descriptor. Errors are ignored: it is closed anyway, and fsync has already reported write errors."""
    with contextlib.suppress(OSError):
        os.close(file)
