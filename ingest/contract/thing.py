"""Canonical things: one thing, one counter, however its address was written.

The rules, in order; docs/click.md states them for the people who embed buttons:

1. Blanks around the thing go. What does not start with http: or https: is an id and stays as it is.
2. An address is what a browser makes of it (the WHATWG's URL standard, by ada): tabs and line ends inside go,
   backslashes are slashes, scheme and host are lower-cased, a host beyond ASCII becomes its IDNA form, an IPv4 address
   its four decimal numbers, ``.`` and ``..`` are resolved, an empty path is ``/``, the scheme's own port goes. The
   host's final dot goes, too.
3. User name, password and fragment go.
4. Percent-encodings: unreserved characters are decoded, all others get upper-case digits; what may not
   stand in an address is encoded as UTF-8.
5. Known tracking parameters and empty ones go; the rest of the query is sorted.

What moved to another address is the alias table's (ingest/runtime/aliases.py).
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
#: What no thing has, whatever else its characters (code points) are: a control, or half a surrogate pair.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
THING_ID: Final = re.compile(r"[0-9a-f]{32}")
Thing = Annotated[str, Meta(min_length=1, max_length=THING_LENGTH_MAX)]
#: What advertisers and mailers add to addresses to know who comes by them, and pages do without. Kept by hand, last
#: gone through on 2026-11-26. A new name changes what things are called that bear it: add it at a month's start.
TRACKING_PREFIXES: Final = ("utm_", "mtm_", "pk_", "hsa_", "oly_", "vero_")
TRACKING_NAMES: Final = frozenset(
    """
    __hsfp __hssc __hstc _branch_match_id _ga _gl _hsenc _hsmi _openstat dclid fbclid gad_campaignid gad_source gbraid
    gclid gclsrc hsctatracking igsh igshid li_fat_id mc_cid mc_eid mkt_tok ml_subscriber ml_subscriber_hash msclkid
    rb_clickid s_cid s_kwcid srsltid ttclid twclid wbraid wickedid yclid ysclid
    """.split()  # noqa: SIM905 - a list to read and to add to
)
_WEB: Final = re.compile(r"https?:", re.IGNORECASE)
#: What browsers take out of an address, wherever it stands.
_BREAKS: Final = dict.fromkeys(map(ord, "\t\r\n"))
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
#: What quote() leaves alone besides the unreserved: RFC 3986's pchar, and the sign of an encoding.
_PATH_SAFE: Final = "/:@!$&'()*+,;=%"
_QUERY_SAFE: Final = "/?:@!$'()*+,;=%"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~/:@!$&'()*+,;=-]*")


def is_address(thing: str) -> bool:
    """Whether this is an http(s) address, if anything, and no id."""
    return _WEB.match(thing) is not None


def plain(thing: str) -> str:
    """A thing as it was given, but for what no thing has. Raises ``ValueError`` where it has more of that."""
    if CONTROL.search(thing) is None:
        return thing
    flat = thing.strip().translate(_BREAKS)
    if not is_address(flat) or CONTROL.search(flat):
        raise ValueError("a control character")
    return flat


def canonical(thing: str) -> str:
    """The one spelling of a thing. Raises ``ValueError`` when it starts like an address and is none."""
    thing = thing.strip()
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
        raise ValueError("no browser would open it") from None


def _pieces(address: str) -> tuple[str, str, str]:
    """Scheme with host, path and query of an address that ada wrote."""
    bare, _, query = address.partition("#")[0].partition("?")
    scheme, _, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    name, colon, port = host.partition(":")
    if name.endswith("."):
        # Without its dot it may be an IPv4 address in short.
        return _pieces(_as_browsers_read(f"{scheme}://{name.rstrip('.')}{colon}{port}{slash}{path}?{query}"))
    return f"{scheme}://{host}", slash + path, query


def _encoded(text: str, safe: str) -> str:
    """Encode what may not stand here, then bring every encoding to its one form."""
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
        if name and name not in TRACKING_NAMES and not name.startswith(TRACKING_PREFIXES):
            yield encoded


def thing_id(creator_id: str, canonical_thing: str) -> str:
    """The 128-bit name of a creator's thing, as 32 hexadecimal digits: BLAKE2b of both, NUL between."""
    text = f"{creator_id}\0{canonical_thing}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
