"""Canonical things: one thing has one counter, however its address is written.

The rules, in order; docs/click.md states them for people who embed buttons:

1. Surrounding whitespace is removed, and a byte order mark there. Whatever does not start with http: or https: is an
   id and stays as it is.
2. An address is normalised as a browser does it (WHATWG URL, by ada): tabs and line breaks are removed, backslashes
   become slashes, scheme and host are lower-cased, a non-ASCII host becomes its IDNA form, an IPv4 address its
   dotted decimal form, ``.`` and ``..`` are resolved, an empty path becomes ``/``, the default port is removed. The
   final dot of the host is removed as well.
3. User name, password and fragment are removed.
4. Percent-encodings: unreserved characters are decoded, all others get upper-case digits; characters that are not
   allowed in an address are encoded as UTF-8.
5. Known tracking parameters and empty parameters are removed; the rest of the query is sorted.

Things that moved to another address are the alias table's business (ingest/runtime/aliases.py).
Pure: canonical(canonical(x)) == canonical(x), and the order of query parameters does not matter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Final
from urllib.parse import quote, unquote_to_bytes

import ada_url
from msgspec import Meta

THING_LENGTH_MAX: Final = 2048
#: Characters that no thing may contain: controls and lone surrogates.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
THING_ID: Final = re.compile(r"[0-9a-f]{32}")
Thing = Annotated[str, Meta(min_length=1, max_length=THING_LENGTH_MAX)]
#: Parameters that advertisers and mailers add for tracking, and that pages do not need. Maintained by hand, last
#: reviewed on 2026-11-26. A new name changes the ids of things that carry it: add one only at the start of a month.
TRACKING_PREFIXES: Final = ("utm_", "mtm_", "pk_", "hsa_", "oly_", "vero_")
TRACKING_NAMES: Final = frozenset(
    """
    __hsfp __hssc __hstc _branch_match_id _ga _gl _hsenc _hsmi _openstat dclid fbclid gad_campaignid gad_source gbraid
    gclid gclsrc hsctatracking igsh igshid li_fat_id mc_cid mc_eid mkt_tok ml_subscriber ml_subscriber_hash msclkid
    rb_clickid s_cid s_kwcid srsltid ttclid twclid wbraid wickedid yclid ysclid
    """.split()  # noqa: SIM905 - easier to read and extend
)
_WEB: Final = re.compile(r"https?:", re.IGNORECASE)
#: What stands around a thing and is no part of it: blanks, and the byte order mark of a file.
_AROUND: Final = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + "\ufeff"
#: Characters that browsers remove from anywhere in an address.
_BREAKS: Final = dict.fromkeys(map(ord, "\t\r\n"))
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
#: What quote() leaves alone besides unreserved characters: RFC 3986's pchar, and the percent sign.
_PATH_SAFE: Final = "/:@!$&'()*+,;=%"
_QUERY_SAFE: Final = "/?:@!$'()*+,;=%"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~/:@!$&'()*+,;=-]*")


def is_address(thing: str) -> bool:
    """Whether this is meant as an http(s) address rather than an id."""
    return _WEB.match(thing) is not None


def plain(thing: str) -> str:
    """A thing without the tabs and line breaks of an address. Raises ``ValueError`` for other control characters."""
    if CONTROL.search(thing) is None:
        return thing
    flat = thing.strip(_AROUND).translate(_BREAKS)
    if not is_address(flat) or CONTROL.search(flat):
        raise ValueError("a control character")
    return flat


def canonical(thing: str) -> str:
    """The canonical form of a thing. Raises ``ValueError`` when it starts like an address but is not valid."""
    thing = thing.strip(_AROUND)
    flat = thing.translate(_BREAKS)
    if not is_address(flat):
        return thing
    authority, path, query = _pieces(_as_browsers_read(flat))
    address = authority + _encoded(path, _PATH_SAFE)
    if not query:
        return address
    query = "&".join(sorted(_retained(query)))
    return f"{address}?{query}" if query else address


def _as_browsers_read(address: str) -> str:
    try:
        return ada_url.normalize_url(address)
    except ValueError:
        raise ValueError("not a valid address") from None


def _pieces(address: str) -> tuple[str, str, str]:
    """Scheme with host, path, and query of an address normalised by ada."""
    bare, _, query = address.partition("#")[0].partition("?")
    scheme, _, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    name, colon, port = host.partition(":")
    if name.endswith("."):
        # Without the dot it may be a short form of an IPv4 address, so normalise again.
        return _pieces(_as_browsers_read(f"{scheme}://{name.rstrip('.')}{colon}{port}{slash}{path}?{query}"))
    return f"{scheme}://{host}", slash + path, query


def _encoded(text: str, safe: str) -> str:
    """Encode the characters that are not allowed, then normalise every encoding."""
    if _PLAIN.fullmatch(text):
        return text
    return _PERCENT.sub(_one_encoding, quote(_lone_percent(text), safe=safe))


def _lone_percent(text: str) -> str:
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text) if "%" in text else text


def _one_encoding(match: re.Match[str]) -> str:
    char = unquote_to_bytes(match[0]).decode("latin-1")
    return char if char in _UNRESERVED else match[0].upper()


def _retained(query: str) -> Iterable[str]:
    for pair in query.split("&"):
        encoded = _encoded(pair, _QUERY_SAFE)
        name = encoded.partition("=")[0].lower()
        if name and not is_tracking(name):
            yield encoded


def is_tracking(name: str) -> bool:
    """Whether a parameter, in small letters, is one that advertisers or mailers add."""
    return name in TRACKING_NAMES or name.startswith(TRACKING_PREFIXES)


def thing_id(creator_id: str, canonical_thing: str) -> str:
    """The 128-bit name of a creator's thing, as 32 hexadecimal digits: BLAKE2b of both, NUL between."""
    text = f"{creator_id}\0{canonical_thing}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
