"""A file that is read again when it changes: keys and sites are rotated without a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

T = TypeVar("T")
_LOOK_AGAIN_S: Final = 1.0
_log = structlog.get_logger(__name__)


class FileError(ValueError):
    """A file that the service needs is missing or malformed; the message says where and what to do."""


class WatchedFile(Generic[T]):
    """What ``parse`` makes of a file, at most a second behind it.

    A file that turns unreadable later leaves the last good value in force, with an error in the log.
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
            parse(path)  # which knows better what to do about it
            raise
        self.value = parse(path)

    def changed(self) -> bool:
        """Look at the file, at most once a second; True when ``value`` is a new one."""
        now = self._monotonic()
        if now < self._look_again_at:
            return False
        self._look_again_at = now + _LOOK_AGAIN_S
        try:
            stamp = self._stamped()
            if stamp == self._stamp:
                return False
            # Noted even if it cannot be parsed: one error for one bad file, not one a second.
            self._stamp = stamp
            self.value = self._parse(self._path)
        except FileError as error:
            _log.error("file not read again; what it said before stays in force", reason=str(error))
            return False
        _log.info("file read again", path=str(self._path))
        return True

    def _stamped(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise FileError(f"{self._path} cannot be read: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size
