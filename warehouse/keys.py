"""API keys by role. The file holds hashes only, so whoever reads it cannot use it.

``FLATTR_API_KEYS`` names a JSON file: ``{"keys": [{"name": ..., "role": ..., "sha256": ...}]}``.
A key has 256 random bits, which is why one round of SHA-256 is hash enough.
The file is read anew when it changes: issuing and revoking need no restart.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

PREFIX: Final = "flk_"


class Role(StrEnum):
    """What a key is for."""

    #: counts, series, top lists, the live stream: of creators and things, never of a member
    DASHBOARD = "dashboard"
    #: also members, payouts, the month's end
    FINANCE = "finance"
    #: everything
    OPERATOR = "operator"

    def may(self, needed: Role) -> bool:
        """Whether a key of this role opens what needs the other."""
        return _RANK[self] >= _RANK[needed]


_RANK: Final = {Role.DASHBOARD: 0, Role.FINANCE: 1, Role.OPERATOR: 2}


class Key(msgspec.Struct, frozen=True):
    """One line of the file. ``sha256`` is of the whole key, in hexadecimal digits."""

    name: str
    role: Role
    sha256: str


class _File(msgspec.Struct):
    keys: list[Key]


class KeysError(Exception):
    """The file of keys cannot be read or does not say what it should; the message tells."""


def issue(name: str, role: Role) -> tuple[str, Key]:
    """A new key and its line. The key is shown once and kept nowhere."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, Key(name, role, _hash(secret))


def load(path: Path) -> list[Key]:
    """The keys of a file. Raises ``KeysError``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).keys
    except OSError as error:
        raise KeysError(f"keys file {path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise KeysError(f"keys file {path} is not what `flattr keys issue` writes: {error}") from error


def save(path: Path, keys: list[Key]) -> None:
    """Replace the file in one step, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class _Stamp:
    """What changes when the file does."""

    mtime_ns: int
    inode: int
    size: int


class KeyRing:
    """The keys of a file, as it stands now. Raises ``KeysError`` when it cannot be read at the start.

    A file that becomes unreadable later opens nothing: nobody gets in on keys that may be revoked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: _Stamp | None = None
        self._keys: list[Key] = load(path)

    def holder(self, secret: str) -> Key | None:
        """Whose key this is. Takes the same time whichever key it is, or none."""
        presented = _hash(secret)
        found: Key | None = None
        for key in self._current():
            if hmac.compare_digest(key.sha256, presented):
                found = key
        return found

    def _current(self) -> list[Key]:
        try:
            stat = self._path.stat()
            stamp = _Stamp(stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp != self._stamp:
                self._keys = load(self._path)
                self._stamp = stamp
        except (OSError, KeysError):
            self._keys, self._stamp = [], None
        return self._keys
