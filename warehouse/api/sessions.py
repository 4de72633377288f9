"""Sessions of the pages and tokens of streams: signed, short-lived, and never the key or token that they stand for.

Each is a JWT under a secret of the API's own, so any process that has the secret takes it, without sticky sessions and
without a store that every page would have to read. What it stands for is looked up at every use: a key that was
revoked, and a token key that was removed, end theirs at once, everywhere. Signing out ends a session in this process
and removes the cookie; a copy of the cookie could still be used on another process until the session is over.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ingest.runtime.clock import Clock
from ingest.runtime.watched_file import FileError
from warehouse.api.cache import BoundedCache

_SECRET_MIN_BYTES: Final = 32
_ALGORITHM: Final = "HS256"
_NONCE_BYTES: Final = 12
#: Longer text is no session of ours.
_SESSION_MAX_BYTES: Final = 1024
#: Room for the ids of ended sessions, about 500 bytes each.
_ENDED_BYTES: Final = 4 << 20


class Kind(StrEnum):
    """What a session is good for; one kind never passes for another."""

    #: an API key, on the pages
    KEY = "key"
    #: a member, on the member's page
    MEMBER = "member"
    #: one creator's live stream, in an address
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Session:
    """What a session stands for.

    ``subject`` is the name of the key, the member's id, or the creator whose stream it is; ``proof`` identifies the
    key behind it, so that another key of the same name is not the same. Times are in ms.
    """

    kind: Kind
    subject: str
    proof: str
    expires_at_ms: int
    session_id: str


def read_secret(path: Path | None) -> bytes:
    """The secret that signs sessions, or a random one without a file. Raises ``FileError``."""
    if path is None:
        return secrets.token_bytes(_SECRET_MIN_BYTES)
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise FileError(f"cannot read the session secret from {path}: {error.strerror}") from error
    if len(secret) < _SECRET_MIN_BYTES:
        raise FileError(f"{path}: a session secret has at least {_SECRET_MIN_BYTES} bytes")
    return secret


class Sessions:
    """Signs sessions and reads them back. ``monotonic`` is in seconds; ``valid_max_s`` is the longest life."""

    def __init__(self, secret: bytes, *, clock: Clock, monotonic: Callable[[], float], valid_max_s: float) -> None:
        self._secret = secret
        key = HKDF(SHA256(), length=32, salt=None, info=b"flattr member token").derive(secret)
        self._cipher = AESGCM(key)
        self._clock = clock
        self._monotonic = monotonic
        self._ended: BoundedCache[str, None] = BoundedCache(
            ttl_s=valid_max_s, bytes_max=_ENDED_BYTES, monotonic=monotonic
        )

    def sign(self, kind: Kind, subject: str, proof: str, expires_at_ms: int) -> str:
        """The text of a new session."""
        claims = {
            "aud": kind,
            "sub": subject,
            "of": proof,
            "exp": expires_at_ms / 1000,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def read(self, kind: Kind, text: str) -> Session | None:
        """The session, if it is one of ours, of this kind, neither over nor ended."""
        if len(text) > _SESSION_MAX_BYTES:
            return None
        try:
            # The end is checked below, against the injected clock.
            claims: dict[str, Any] = jwt.decode(
                text,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=kind,
                options={"require": ["sub", "of", "exp", "jti", "aud"], "verify_exp": False},
            )
            found = Session(kind, claims["sub"], claims["of"], round(claims["exp"] * 1000), claims["jti"])
        except (jwt.PyJWTError, ValueError, UnicodeError):
            return None
        over = found.expires_at_ms <= self._clock() or self._ended.get(found.session_id) is not None
        return None if over else found

    def seal(self, session_id: str, token: str) -> str:
        """A member's token for a cookie, unreadable to whoever has only the cookie, and good in this session alone."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, token.encode(), session_id.encode())).decode()

    def unsealed(self, session_id: str, text: str) -> str | None:
        """The token that was sealed in this session; None for anything else."""
        try:
            raw = urlsafe_b64decode(text.encode("ascii"))
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], session_id.encode()).decode()
        except (InvalidTag, ValueError):
            return None

    def end(self, session: Session) -> None:
        """Refuse the session from now on, in this process."""
        self._ended.put(session.session_id, None, at_s=self._monotonic(), weight_bytes=len(session.session_id))
