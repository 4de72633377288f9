"""API keys by role. The file holds only hashes, so reading it gives nobody access.

``FLATTR_API_KEYS`` names a JSON file: ``{"keys": [{"name": ..., "role": ..., "sha256": ..., "only": ...}]}``.
A key has 256 random bits, so a single round of SHA-256 is enough.
The file is reloaded when it changes: issuing and revoking keys need no restart.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from ingest.runtime.watched_file import replace_file

PREFIX: Final = "flk_"
#: Digits of the hash that a session carries: 64 bits.
_PROOF_LENGTH: Final = 16


class Role(StrEnum):
    """What a key may read."""

    #: counts, series, top lists and the live stream of creators and things, never of a member
    DASHBOARD = "dashboard"
    #: also members, payouts and the month-end pages
    FINANCE = "finance"
    #: everything
    OPERATOR = "operator"

    def may(self, needed: Role) -> bool:
        """Whether this role includes the rights of ``needed``."""
        return _RANK[self] >= _RANK[needed]


_RANK: Final = {Role.DASHBOARD: 0, Role.FINANCE: 1, Role.OPERATOR: 2}


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of the file. ``sha256`` is the hash of the whole key, in hexadecimal.

    ``only`` limits the key to what is about one creator, one member or the things of one site: ``creator:anna``,
    ``member:m-1``, ``site:anna.example``.
    """

    name: str
    role: Role
    sha256: str
    only: str = ""

    @property
    def is_of_site(self) -> bool:
        """Whether the key is for one site."""
        return self.only.startswith("site:")

    @property
    def proof(self) -> str:
        """Tells this key from any other, also of the same name, and gives nobody access."""
        return self.sha256[:_PROOF_LENGTH]

    def covers(self, named: Mapping[str, str]) -> bool:
        """Whether the key may read what these parameters of a path name, such as ``{"creator_id": "anna"}``."""
        kind, _, identifier = self.only.partition(":")
        return not self.only or named.get(f"{kind}_id") == identifier


class _File(msgspec.Struct):
    keys: list[Key]


class KeysError(Exception):
    """The keys file cannot be read or has the wrong format; the message says which."""


def issue(name: str, role: Role, only: str = "") -> tuple[str, Key]:
    """Make a key and its entry. The key itself is stored nowhere, so the caller must show it now."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, Key(name, role, _hash(secret), only)


def load(path: Path) -> list[Key]:
    """The keys of a file. Raises ``KeysError``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).keys
    except OSError as error:
        raise KeysError(f"keys file {path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeysError(f"keys file {path} does not have the format of `flattr keys issue`: {error}") from error


def save(path: Path, keys: list[Key]) -> None:
    """Replace the file atomically, readable only by its owner."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2) + b"\n")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class _Stamp:
    """What changes whenever the file does."""

    mtime_ns: int
    inode: int
    size: int


class KeyRing:
    """The current keys of a file. Raises ``KeysError`` when it cannot be read at the start.

    If it becomes unreadable later, every key is refused: any of them may have been revoked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: _Stamp | None = None
        self._keys: list[Key] = load(path)

    def holder(self, secret: str) -> Key | None:
        """Find the key's entry. Takes the same time whichever key matches, or none."""
        presented = _hash(secret)
        found: Key | None = None
        for key in self._current():
            if hmac.compare_digest(key.sha256, presented):
                found = key
        return found

    def named(self, name: str, proof: str) -> Key | None:
        """The key of this name, if it is still the one that ``proof`` is of."""
        return next((key for key in self._current() if key.name == name and key.proof == proof), None)

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
