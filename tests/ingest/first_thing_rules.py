"""Canonical addresses as they were until November 2026, to hold today's against: the log is full of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

TRACKING_PREFIXES: Final = ("utm_", "mtm_", "pk_", "hsa_", "oly_", "vero_")
TRACKING_NAMES: Final = frozenset(
    """
    _ga _gl _hsenc _hsmi dclid fbclid gad_source gbraid gclid gclsrc igsh igshid li_fat_id mc_cid mc_eid
    mkt_tok msclkid s_cid s_kwcid srsltid ttclid twclid wbraid wickedid yclid
    """.split()  # noqa: SIM905 - a list to read and to add to
)
_PORTS: Final = {"http": 80, "https": 443}
_WEB: Final = re.compile(r"https?://", re.IGNORECASE)
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
#: What quote() leaves alone besides the unreserved: RFC 3986's pchar, and the sign of an encoding.
_PATH_SAFE: Final = "/:@!$&'()*+,;=%"
_QUERY_SAFE: Final = "/?:@!$'()*+,;=%"


def canonical(thing: str) -> str:
    """The one spelling of a thing. Raises ``ValueError`` when it starts like an address and is none."""
    thing = thing.strip()
    if not _WEB.match(thing):
        return thing
    parts = urlsplit(thing)
    path = _resolve(_encoded(parts.path, _PATH_SAFE)) or "/"
    query = "&".join(sorted(_retained(parts.query)))
    address = f"{parts.scheme}://{_authority(parts.scheme, parts.hostname, parts.port)}{path}"
    return f"{address}?{query}" if query else address


def _authority(scheme: str, host: str | None, port: int | None) -> str:
    host = (host or "").rstrip(".")
    if not host:
        raise ValueError("an address needs a host")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        host = f"[{host}]"
    elif not re.fullmatch(r"[a-z0-9_.-]+", host):
        raise ValueError("the host has characters that no host name has")
    return host if port in (None, _PORTS[scheme]) else f"{host}:{port}"


def _encoded(text: str, safe: str) -> str:
    """Encode what may not stand here, then bring every encoding to its one form."""
    return _PERCENT.sub(_one_encoding, quote(_lone_percent(text), safe=safe))


def _lone_percent(text: str) -> str:
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text) if "%" in text else text


def _one_encoding(match: re.Match[str]) -> str:
    char = unquote_to_bytes(match[0]).decode("latin-1")
    return char if char in _UNRESERVED else match[0].upper()


def _resolve(path: str) -> str:
    """Remove dot segments; a trailing one leaves its slash."""
    if "/." not in path:
        return path
    retained: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del retained[-1:]
        elif segment != ".":
            retained.append(segment)
    if segments[-1] in (".", ".."):
        retained.append("")
    return "/" + "/".join(retained)


def _retained(query: str) -> Iterable[str]:
    for pair in query.split("&"):
        encoded = _encoded(pair, _QUERY_SAFE)
        name = encoded.partition("=")[0].lower()
        if name and name not in TRACKING_NAMES and not name.startswith(TRACKING_PREFIXES):
            yield encoded
