"""A file that is reloaded when it changes, so that keys and sites can be changed without a restart."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from ingest.runtime.log import log

T = TypeVar("T")
_LOOK_AGAIN_S: Final = 1.0


class FileError(ValueError):
    """A file that the service needs is missing or malformed; the message says which and what to do."""


def replace_file(path: Path, content: bytes) -> None:
    """Write a secret file whole or not at all: only its owner may read it, who stays the same where that is allowed.

    A new file takes the old one's name, so containers must mount the folder: a mount of the file shows the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
        if path.exists():
            before = path.stat()
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


class WatchedFile(Generic[T]):
    """The parsed contents of a file, at most a second behind it.

    If the file becomes invalid later, the last good value stays in force, and an error is logged.
    """

    def __init__(
        self, path: Path, parse: Callable[[Path], T], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the file now. Raises ``FileError``."""
        self._path = path
        self._parse = parse
        self._monotonic = monotonic
        self._look_again_at = monotonic() + _LOOK_AGAIN_S
        try:
            self._stamp = self._stamped()
        except FileError:
            parse(path)  # its error says better what to do
            raise
        self.value = parse(path)

    def changed(self) -> bool:
        """Check the file, at most once a second; True when ``value`` was replaced."""
        now = self._monotonic()
        if now < self._look_again_at:
            return False
        self._look_again_at = now + _LOOK_AGAIN_S
        try:
            stamp = self._stamped()
            if stamp == self._stamp:
                return False
            # Noted even if it cannot be parsed, so that a bad file is logged once and not every second.
            self._stamp = stamp
            self.value = self._parse(self._path)
        except FileError as error:
            log(__name__).error("cannot reload a file; its previous contents stay in force", reason=str(error))
            return False
        log(__name__).info("file reloaded", path=str(self._path))
        return True

    def _stamped(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise FileError(f"cannot read {self._path}: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size
