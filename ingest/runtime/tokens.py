"""Member and pixel tokens: JWTs signed with HS256 or EdDSA, with keys that rotate without a restart.

The key file is one JSON object, key id -> JWK (RFC 7517). The last key in the file that has a private part (or is
an HS256 secret) signs. To rotate: add a key, issue with it, and remove the old one once its tokens have expired.

A pixel token stands in an address and so leaks through logs and Referer headers. It is therefore a kind of its own:
valid for minutes, for one member's flattr of one thing of one creator on one site. Neither kind passes for the other.
"""

from __future__ import annotations

import base64
import json
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeGuard

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest.contract.names import ID_LENGTH_MAX, IDENTIFIER, IDENTIFIER_RULE, identifier
from ingest.contract.rejection import Reason
from ingest.contract.thing import THING_LENGTH_MAX
from ingest.runtime.clock import Clock
from ingest.runtime.refusal import Refused
from ingest.runtime.watched_file import FileError, WatchedFile, replace_file

ALGORITHMS: Final = ("HS256", "EdDSA")
_TOKEN_MAX_BYTES: Final = 4096
_CACHE_MAX: Final = 100_000
#: The same sentence whatever is wrong, so that answers do not reveal which key ids or members exist.
_INVALID: Final = "the token is not one that we issued"
_EARLY_WAIT_MAX_S: Final = 3600
#: What a pixel token is bound to besides its member: claim -> maximum length.
PIXEL_CLAIMS: Final = {"creator": ID_LENGTH_MAX, "thing": THING_LENGTH_MAX, "site": ID_LENGTH_MAX}


@dataclass(frozen=True, slots=True)
class Member:
    """The member a token was issued for, when it expires (ms), and the id of the key that signed it."""

    member_id: str
    expires_at: int
    kid: str


@dataclass(frozen=True, slots=True)
class Pixel:
    """The one flattr that a pixel token is for. ``site`` is the site's id or its key.

    ``begins_at`` is when it was issued, in ms, less the leeway for clock differences.
    """

    member_id: str
    creator: str
    thing: str
    site: str
    begins_at: int


def pixel_audience(audience: str) -> str:
    """The ``aud`` of pixel tokens, given that of member tokens."""
    return f"{audience}-pixel"


def read_keys(path: Path) -> dict[str, jwt.PyJWK]:
    """Read the key file: key id -> key. Raises ``FileError``."""
    entries = _entries(path)
    try:
        keys = {kid: jwt.PyJWK(entry, algorithm=entry.get("alg")) for kid, entry in entries.items()}
    except (ValueError, AttributeError, jwt.PyJWTError):
        # The library's error repeats the key, and its cause would bring it into a traceback.
        raise FileError(f"{path} holds no valid token keys: one of them is no JWK with `kty`, `alg` and key") from None
    for kid, key in keys.items():
        if key.algorithm_name not in ALGORITHMS:
            raise FileError(f"{path}: key {kid!r} has alg {key.algorithm_name!r}, not one of {ALGORITHMS}")
        if key.algorithm_name == "HS256" and len(key.key) < 32:
            raise FileError(f"{path}: the secret of key {kid!r} is shorter than 32 bytes")
    return keys


def _entries(path: Path) -> dict[str, dict[str, str]]:
    entries = _object(path)
    if not entries:
        raise FileError(f"{path} must have at least one key, key id -> JWK")
    return entries


def _object(path: Path) -> dict[str, dict[str, str]]:
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise FileError(
            f"cannot read token keys from {path} ({error.strerror}): "
            "create one with `flattr token keygen`, or name another file in FLATTR_TOKEN_KEYS"
        ) from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} holds no valid token keys: {error}") from error
    if not isinstance(entries, dict):
        raise FileError(f"{path} must be a JSON object, key id -> JWK")
    return entries


class Tokens:
    """Verifies tokens, and caches verified ones until they expire or the keys change."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        path: Path,
        *,
        audience: str,
        clock: Clock,
        leeway_s: float = 60,
        pixel_max_s: float = 3600,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the keys. Raises ``FileError``."""
        self._keys = WatchedFile(path, read_keys, monotonic=monotonic)
        self._audience = audience
        self._pixel_audience = pixel_audience(audience)
        self._clock = clock
        self._leeway_s = leeway_s
        self._pixel_max_s = pixel_max_s
        #: The verified tokens most recently used; refusals are not cached.
        self._remembered = lru_cache(_CACHE_MAX)(self._verified)

    @property
    def cached(self) -> int:
        """How many verified tokens are cached."""
        return self._remembered.cache_info().currsize

    def member(self, token: bytes) -> Member:
        """The member whose token this is. Raises ``Refused``."""
        self._look_at_keys()
        member = self._remembered(token)
        if member.expires_at <= self._clock():
            raise Refused(Reason.TOKEN_EXPIRED, "the token has expired: fetch a new one")
        return member

    def has_key(self, kid: str) -> bool:
        """Whether tokens signed by that key are still accepted."""
        self._look_at_keys()
        return kid in self._keys.value

    def _look_at_keys(self) -> None:
        if self._keys.changed():
            self._remembered.cache_clear()

    def pixel(self, token: bytes) -> Pixel:
        """What a pixel token is bound to. Raises ``Refused``."""
        self._look_at_keys()
        claims = self._claims(token)
        if claims["aud"] not in (self._pixel_audience, [self._pixel_audience]):
            raise Refused(Reason.TOKEN_PURPOSE, "this is a member token: an address takes only pixel tokens")
        begins_s, expires_s = claims.get("iat"), claims["exp"]
        if not _is_time(begins_s) or expires_s - begins_s > self._pixel_max_s:
            raise Refused(
                Reason.TOKEN_PURPOSE, f"a pixel token needs iat, and exp at most {self._pixel_max_s:g} s after it"
            )
        self._check_begun(begins_s)
        if expires_s * 1000 <= self._clock():
            raise Refused(Reason.TOKEN_EXPIRED, "the token has expired: fetch a new one")
        bound = {name: claims.get(name) for name in PIXEL_CLAIMS}
        if not all(isinstance(value, str) and 0 < len(value) <= PIXEL_CLAIMS[name] for name, value in bound.items()):
            raise Refused(Reason.TOKEN_SCOPE, "a pixel token must name its creator, thing and site")
        return Pixel(
            claims["sub"], claims["creator"], claims["thing"], claims["site"], round((begins_s - self._leeway_s) * 1000)
        )

    def _verified(self, token: bytes) -> Member:
        claims = self._claims(token)
        if self._pixel_audience in claims["aud"] and claims["aud"] != self._audience:
            raise Refused(Reason.TOKEN_PURPOSE, "this is a pixel token: send a member token")
        return Member(claims["sub"], round(claims["exp"] * 1000), jwt.get_unverified_header(token)["kid"])

    def _claims(self, token: bytes) -> dict[str, Any]:
        """The verified claims of a token of either kind, whose time has begun. Raises ``Refused``."""
        try:
            if len(token) > _TOKEN_MAX_BYTES:
                raise Refused(Reason.TOKEN_INVALID, _INVALID)
            key = self._keys.value[jwt.get_unverified_header(token)["kid"]]
            # The times are checked below, against the injected clock.
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=[self._audience, self._pixel_audience],
                options={
                    "require": ["sub", "exp", "aud"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            begins_s = claims.get("nbf", 0)
            if not IDENTIFIER.fullmatch(claims["sub"]):
                # The signature is ours, so the holder may know what is wrong.
                raise Refused(Reason.TOKEN_INVALID, f"the token's sub names no member: it must be {IDENTIFIER_RULE}")
            if not _is_time(claims["exp"]) or not _is_time(begins_s):
                raise Refused(Reason.TOKEN_INVALID, _INVALID)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, RecursionError):
            raise Refused(Reason.TOKEN_INVALID, _INVALID) from None
        self._check_begun(begins_s)
        return claims

    def _check_begun(self, begins_s: float) -> None:
        """Raise ``Refused`` when a token begins later than clock differences explain."""
        early_s = begins_s - self._clock() / 1000 - self._leeway_s
        if early_s > 0:
            wait_s = min(math.ceil(early_s), _EARLY_WAIT_MAX_S)
            raise Refused(
                Reason.TOKEN_EARLY,
                "the token is not valid yet: send it again after Retry-After",
                retry_after_s=max(1, wait_s),
            )


def _is_time(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def issue(  # noqa: PLR0913 - each is a field of the token
    path: Path,
    member_id: str,
    *,
    audience: str,
    now_ms: int,
    valid_s: int,
    kid: str | None = None,
    bound: Mapping[str, str] | None = None,
) -> str:
    """Sign a token for a member with the key ``kid``, or with the last key in the file that can sign.

    ``bound`` (the claims in ``PIXEL_CLAIMS``) makes it a pixel token. Raises ``FileError``, and ``ValueError`` for an
    invalid member id.
    """
    identifier("member_id", member_id)
    entries, keys = _entries(path), read_keys(path)
    signing = [name for name, entry in entries.items() if entry.get("kty") == "oct" or "d" in entry]
    if not signing or (kid is not None and kid not in signing):
        raise FileError(f"{path} has no private key{f' {kid!r}' if kid else ''} to sign with")
    kid = kid or signing[-1]
    claims = {
        "sub": member_id,
        "aud": pixel_audience(audience) if bound else audience,
        "iat": now_ms // 1000,
        "exp": now_ms // 1000 + valid_s,
        **(bound or {}),
    }
    return jwt.encode(claims, keys[kid].key, algorithm=keys[kid].algorithm_name, headers={"kid": kid})


def keygen(path: Path, *, algorithm: str, kid: str) -> None:
    """Add a key to the file, created with mode 0600 if need be. Raises ``FileError``."""
    entries = _object(path) if path.exists() else {}
    if kid in entries:
        raise FileError(f"{path} already has a key {kid!r}")
    entries[kid] = _new_key(algorithm)
    replace_file(path, (json.dumps(entries, indent=2) + "\n").encode())


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
