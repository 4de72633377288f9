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
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest.click import IDENTIFIER, IDENTIFIER_RULE, Reason, identifier
from ingest.clock import Clock
from ingest.refusal import Refused
from ingest.watched import FileError, Watched

ALGORITHMS: Final = ("HS256", "EdDSA")
_TOKEN_MAX_BYTES: Final = 4096
_CACHE_MAX: Final = 100_000
#: One sentence for whatever is wrong, so that an answer tells nobody which key ids or members exist.
_INVALID: Final = "the token is not one that we issued"


@dataclass(frozen=True, slots=True)
class Member:
    """Who a token speaks for, and until when (ms)."""

    member_id: str
    expires_at: int


def read_keys(path: Path) -> dict[str, jwt.PyJWK]:
    """Key id -> key. Raises ``FileError``."""
    entries = _entries(path)
    try:
        keys = {kid: jwt.PyJWK(entry, algorithm=entry.get("alg")) for kid, entry in entries.items()}
    except (ValueError, AttributeError, jwt.PyJWTError) as error:
        raise FileError(f"{path} holds no valid token keys: {error}") from error
    for kid, key in keys.items():
        if key.algorithm_name not in ALGORITHMS:
            raise FileError(f"{path}: key {kid!r} has alg {key.algorithm_name!r}, which is none of {ALGORITHMS}")
        if key.algorithm_name == "HS256" and len(key.key) < 32:
            raise FileError(f"{path}: the secret of key {kid!r} is shorter than 32 bytes")
    return keys


def _entries(path: Path) -> dict[str, dict[str, str]]:
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise FileError(
            f"no token keys in {path} ({error.strerror}): "
            "`flattr token keygen` makes one, FLATTR_TOKEN_KEYS names another file"
        ) from error
    except ValueError as error:
        raise FileError(f"{path} holds no valid token keys: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise FileError(f"{path} must be a JSON object, key id -> JWK, with at least one key")
    return entries


class Tokens:
    """Verifies tokens; each once, then from a cache until it expires or the keys change."""

    def __init__(
        self, path: Path, *, audience: str, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the keys. Raises ``FileError``."""
        self._keys = Watched(path, read_keys, monotonic=monotonic)
        self._audience = audience
        self._clock = clock
        #: by age; a plain dict takes longer to find its first entry the more before it are gone
        self._cache: OrderedDict[bytes, Member] = OrderedDict()

    @property
    def cached(self) -> int:
        """Tokens that need no verifying."""
        return len(self._cache)

    def member(self, token: bytes) -> str:
        """The id of the member whose token this is. Raises ``Refused``."""
        if self._keys.changed():
            self._cache.clear()
        member = self._cache.get(token)
        if member is None:
            member = self._verified(token)
            self._forget_oldest()
            self._cache[token] = member
        if member.expires_at <= self._clock():
            self._cache.pop(token, None)
            raise Refused(Reason.TOKEN_EXPIRED, "the token has expired: fetch a new one")
        return member.member_id

    def _forget_oldest(self) -> None:
        """Make room for one token; of those that came first, give up two that have expired."""
        now_ms = self._clock()
        for token, member in list(islice(self._cache.items(), 2)):
            if len(self._cache) >= _CACHE_MAX or member.expires_at <= now_ms:
                del self._cache[token]

    def _verified(self, token: bytes) -> Member:
        try:
            if len(token) > _TOKEN_MAX_BYTES:
                raise Refused(Reason.TOKEN_INVALID, _INVALID)
            key = self._keys.value[jwt.get_unverified_header(token)["kid"]]
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
            if not IDENTIFIER.fullmatch(subject):
                # We signed it: whoever has it may know what is wrong.
                raise Refused(Reason.TOKEN_INVALID, f"the token's sub names no member: it must be {IDENTIFIER_RULE}")
            if not _is_time(expires_s) or not _is_time(begins_s):
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
    """Sign a token for a member with ``kid``, or with the file's last key that can sign.

    Raises ``FileError``, and ``ValueError`` when the member's id is none.
    """
    identifier("member_id", member_id)
    entries, keys = _entries(path), read_keys(path)
    signing = [name for name, entry in entries.items() if entry.get("kty") == "oct" or "d" in entry]
    if not signing or (kid is not None and kid not in signing):
        raise FileError(f"{path} has no key {kid or ''} that can sign")
    kid = kid or signing[-1]
    claims = {"sub": member_id, "aud": audience, "iat": now_ms // 1000, "exp": now_ms // 1000 + valid_s}
    return jwt.encode(claims, keys[kid].key, algorithm=keys[kid].algorithm_name, headers={"kid": kid})


def keygen(path: Path, *, algorithm: str, kid: str) -> None:
    """Add a key to the file, or make the file, readable by its owner alone. Raises ``FileError``."""
    entries = json.loads(path.read_bytes()) if path.exists() else {}
    if kid in entries:
        raise FileError(f"{path} has a key {kid!r} already")
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
