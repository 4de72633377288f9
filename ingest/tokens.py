"""Member tokens: who clicks. HS256 and EdDSA by key id, rotated without a restart.

The key file is one JSON object, key id -> JWK (RFC 7517). A key with a private part signs
(HS256's secret is both); the last such key in the file is the one that signs. Rotation: add a key,
issue with it, remove the old one once its tokens have expired.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest.click import Reason
from ingest.clock import Clock
from ingest.refusal import Refused
from ingest.validate import IDENTIFIER

ALGORITHMS: Final = ("HS256", "EdDSA")
_TOKEN_MAX_BYTES: Final = 4096
_CACHE_MAX: Final = 100_000
_LOOK_AGAIN_S: Final = 1.0
#: One sentence for whatever is wrong, so that an answer tells nobody which key ids or members exist.
_INVALID: Final = "the token is not one that we issued"
_log = structlog.get_logger(__name__)


class KeyFileError(ValueError):
    """The key file is missing or malformed; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who a token speaks for, and until when (ms)."""

    member_id: str
    expires_at: int


class KeyFile:
    """The keys of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0, 0)
        self.keys: Mapping[str, jwt.PyJWK] = {}
        self.reload()

    def reload(self) -> bool:
        """Read the file if it changed. Raises ``KeyFileError``; the keys stay as they were then."""
        try:
            found = self._path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return False
            keys = read_keys(self._path)
        except OSError as error:
            raise KeyFileError(
                f"no readable token keys in {self._path} ({error.strerror}): "
                "`flattr token keygen` makes one, FLATTR_TOKEN_KEYS names another file"
            ) from error
        self._stamp, self.keys = stamp, keys
        return True


def read_keys(path: Path) -> dict[str, jwt.PyJWK]:
    """Key id -> key. Raises ``KeyFileError`` or ``OSError``."""
    try:
        entries = json.loads(path.read_bytes())
        if not isinstance(entries, dict) or not entries:
            raise KeyFileError(f"{path} must be a JSON object, key id -> JWK, with at least one key")
        keys = {kid: jwt.PyJWK(entry, algorithm=entry.get("alg")) for kid, entry in entries.items()}
    except (ValueError, AttributeError, jwt.PyJWTError) as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError(f"{path} holds no valid token keys: {error}") from error
    for kid, entry in entries.items():
        if keys[kid].algorithm_name not in ALGORITHMS:
            raise KeyFileError(f"{path}: key {kid!r} has alg {entry.get('alg')!r}, which is none of {ALGORITHMS}")
        if keys[kid].algorithm_name == "HS256" and len(keys[kid].key) < 32:
            raise KeyFileError(f"{path}: the secret of key {kid!r} is shorter than 32 bytes")
    return keys


class Tokens:
    """Verifies tokens; each once, then from a cache until it expires or the keys change."""

    def __init__(
        self, keys: KeyFile, *, audience: str, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._audience = audience
        self._clock = clock
        self._monotonic = monotonic
        self._look_again_at = 0.0
        self._cache: dict[bytes, Member] = {}

    def member(self, token: bytes) -> Member:
        """Whose token this is. Raises ``Refused``."""
        if not token:
            raise Refused(Reason.TOKEN_MISSING, "send Authorization: Bearer and a member token")
        now = self._monotonic()
        if now >= self._look_again_at:
            self._look_again_at = now + _LOOK_AGAIN_S
            self._refresh()
        member = self._cache.get(token)
        if member is None:
            member = self._verified(token)
            if len(self._cache) >= _CACHE_MAX:
                del self._cache[next(iter(self._cache))]
            self._cache[token] = member
        if member.expires_at <= self._clock():
            self._cache.pop(token, None)
            raise Refused(Reason.TOKEN_EXPIRED, "the token has expired: fetch a new one")
        return member

    def _refresh(self) -> None:
        try:
            changed = self._keys.reload()
        except KeyFileError as error:
            _log.exception("token keys not read again; the old ones stay in force", reason=str(error))
            return
        if changed:
            self._cache.clear()
            _log.info("token keys read", key_ids=sorted(self._keys.keys))

    def _verified(self, token: bytes) -> Member:
        try:
            if len(token) > _TOKEN_MAX_BYTES:
                raise Refused(Reason.TOKEN_INVALID, _INVALID)
            key = self._keys.keys[jwt.get_unverified_header(token)["kid"]]
            # The times are held against our own clock, below.
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                options={
                    "require": ["sub", "exp", "aud"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            subject, expires_s, begins_s = claims["sub"], claims["exp"], claims.get("nbf", 0)
            if not IDENTIFIER.fullmatch(subject) or not _is_time(expires_s) or not _is_time(begins_s):
                raise Refused(Reason.TOKEN_INVALID, _INVALID)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, RecursionError):
            raise Refused(Reason.TOKEN_INVALID, _INVALID) from None
        if begins_s * 1000 > self._clock():
            raise Refused(Reason.TOKEN_INVALID, _INVALID)
        return Member(subject, round(expires_s * 1000))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def issue(  # noqa: PLR0913 - a token has so many parts
    path: Path, member_id: str, *, audience: str, now_ms: int, valid_s: int, kid: str | None = None
) -> str:
    """Sign a token for a member with ``kid``, or with the file's last key that can sign. Raises ``KeyFileError``."""
    if not IDENTIFIER.fullmatch(member_id):
        raise KeyFileError(f"{member_id!r} is no member id: 1 to 64 visible ASCII characters")
    try:
        entries: dict[str, dict[str, str]] = json.loads(path.read_bytes())
        keys = read_keys(path)
    except OSError as error:
        raise KeyFileError(f"no readable token keys in {path}: `flattr token keygen` makes one") from error
    signing = [name for name, entry in entries.items() if entry.get("kty") == "oct" or "d" in entry]
    if not signing or (kid is not None and kid not in signing):
        raise KeyFileError(f"{path} has no key {kid or ''} that can sign")
    kid = kid or signing[-1]
    claims = {"sub": member_id, "aud": audience, "iat": now_ms // 1000, "exp": now_ms // 1000 + valid_s}
    return jwt.encode(claims, keys[kid].key, algorithm=keys[kid].algorithm_name, headers={"kid": kid})


def keygen(path: Path, *, algorithm: str, kid: str) -> None:
    """Add a key to the file, or make the file, readable by its owner alone. Raises ``KeyFileError``."""
    entries = json.loads(path.read_bytes()) if path.exists() else {}
    if kid in entries:
        raise KeyFileError(f"{path} has a key {kid!r} already")
    entries[kid] = _new_key(algorithm)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(entries, indent=2) + "\n")
    fresh.replace(path)


def _new_key(algorithm: str) -> dict[str, str]:
    if algorithm == "HS256":
        return {"kty": "oct", "alg": "HS256", "k": _base64url(secrets.token_bytes(32))}
    key = Ed25519PrivateKey.generate()
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "x": _base64url(key.public_key().public_bytes_raw()),
        "d": _base64url(key.private_bytes_raw()),
    }


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
