"""Who may click: a member by token, a trusted gateway for its members, a site by key and origin; and how often."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import ada_url
import msgspec

from ingest.admission.rate_limit import RateLimits
from ingest.admission.request import JSON, Request, body_token
from ingest.admission.validate import Caller
from ingest.contract.click import UNREADABLE
from ingest.contract.names import IDENTIFIER, identifier
from ingest.contract.rejection import Reason
from ingest.runtime.refusal import Refused
from ingest.runtime.tokens import Pixel, Tokens
from ingest.runtime.watched_file import FileError, WatchedFile
from ingest.settings import IngestSettings

_NOBODY: Final = Caller("")


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the sites file. ``clicks_per_s`` 0 means that the site has no rate limit."""

    site_id: str
    origins: list[str]
    clicks_per_s: float = 0


def read_sites(path: Path) -> dict[str, Site]:
    """Read the sites file: site key -> site. Raises ``FileError``."""
    try:
        sites = msgspec.json.decode(path.read_bytes(), type=dict[str, Site])
    except (OSError, *UNREADABLE) as error:
        raise FileError(
            f"{path} is not a valid sites file (a JSON object, key -> site_id, origins): {error}"
        ) from error
    for key, site in sites.items():
        try:
            identifier("site_id", site.site_id)
        except ValueError as error:
            raise FileError(f"{path}: site {key!r}: {error}") from None
        if not key.isascii() or not key.isprintable() or not key.strip():
            # A request without a key would be this site's.
            raise FileError(f"{path}: {key!r} of site {site.site_id!r} is no key: it must be printable ASCII")
        if not site.clicks_per_s >= 0:
            raise FileError(f"{path}: site {key!r} has the rate limit {site.clicks_per_s}: it must be 0 or more")
        for origin in site.origins:
            if not _is_origin(origin):
                raise FileError(
                    f"{path}: {origin!r} of site {key!r} is not an origin as browsers send it, such as "
                    "https://example.org: small letters, no path, no port that the scheme has by itself, no *"
                )
    return sites


def _is_origin(text: str) -> bool:
    """Whether a browser could send this as ``Origin`` (WHATWG URL)."""
    try:
        return text.startswith(("http://", "https://")) and "*" not in text and ada_url.URL(text).origin == text
    except ValueError:
        return False


class Admission:
    """Authenticates requests and enforces rate limits."""

    def __init__(
        self,
        settings: IngestSettings,
        tokens: Tokens,
        limits: RateLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the sites file, if one is set. Raises ``FileError``."""
        self._settings = settings
        self._tokens = tokens
        self._limits = limits
        self._monotonic = monotonic
        secret = settings.gateway_secret
        self._gateway_secret = secret.get_secret_value().encode() if secret else b""
        self._sites = WatchedFile(settings.sites_file, read_sites, monotonic=monotonic) if settings.sites_file else None

    def caller(self, request: Request, body: bytes, media_type: bytes) -> Caller:
        """Authenticate a request. ``body`` is JSON and may carry the token. Raises ``Refused``."""
        site = self._site(request)
        site_id = site.site_id if site else ""
        if self._gateway_secret and (sent := request.header(b"x-flattr-gateway")):
            return Caller(self._by_gateway(request, sent), site_id)
        token = request.bearer or body_token(body, media_type) or self._cookie(request, site)
        if not token:
            raise Refused(Reason.TOKEN_MISSING, "send a member token: Authorization: Bearer, or `token` in the body")
        return Caller(self._tokens.member(token).member_id, site_id)

    def known(self, request: Request) -> Caller:
        """Identify, from its headers alone, the sender of a request that is refused before its body is read."""
        try:
            return self.caller(request, b"", b"")
        except Refused:
            return _NOBODY

    def _cookie(self, request: Request, site: Site | None) -> bytes:
        """The cookie's token, if a page of the key's own site sent it: any page can make a browser send cookies."""
        if site is None or request.method != "POST" or request.origin not in site.origins:
            return b""
        token = request.cookie
        if token and not request.from_script:
            raise Refused(
                Reason.ORIGIN_FORBIDDEN, "the browser reports that this was not sent by a script on the site's page"
            )
        return token

    def pixel(self, request: Request, query: bytes) -> tuple[Caller, Pixel]:
        """The member a pixel is for, and the one flattr that its token is bound to. Raises ``Refused``.

        Cookies and the gateway's headers are ignored: any page can make a browser load an image with both.
        """
        token = request.bearer or body_token(query, JSON)
        if not token:
            raise Refused(Reason.TOKEN_MISSING, "a pixel needs a pixel token in its query; cookies are ignored")
        pixel = self._tokens.pixel(token)
        sites = self._known_sites()
        if sites is None:
            return Caller(pixel.member_id, pixel.site), pixel
        named = [site for key, site in sites.items() if pixel.site in (key, site.site_id)]
        if not named:
            raise Refused(Reason.SITE_UNKNOWN, "the token names a site that is not known here")
        site_id = named[0].site_id
        key = request.site_key
        if key and (key not in sites or sites[key].site_id != site_id):
            raise Refused(Reason.TOKEN_SCOPE, "the token is for another site")
        page = request.origin or request.referer
        if page and not any(page in site.origins for site in sites.values() if site.site_id == site_id):
            raise Refused(Reason.ORIGIN_FORBIDDEN, "the token is for another site's pages")
        return Caller(pixel.member_id, site_id), pixel

    def check_failures(self, request: Request, refused: Refused) -> None:
        """Count a refusal of ``caller`` or ``pixel``. Raises ``Refused`` (429) when an address fails too often.

        Requests with a valid token from the same address are not affected.
        """
        per_min = self._settings.failures_per_min
        if per_min == 0 or refused.refusal.reason is Reason.TOKEN_EARLY:
            return
        wait_s = self._limits.strangers.take(
            request.address.encode(), 1, per_s=per_min / 60, burst=per_min, now_s=self._monotonic()
        )
        if wait_s > 0:
            raise Refused(
                Reason.RATE_LIMITED,
                "too many requests without a valid token came from this address",
                retry_after_s=max(1, math.ceil(wait_s)),
            ) from refused

    def origin_to_answer(self, request: Request) -> bytes:
        """The value of Access-Control-Allow-Origin; empty when the page may not read the answer."""
        if not request.cross_origin:
            return b""
        sites = self._known_sites()
        if sites is None:
            return b"*"
        origin = request.origin
        return origin.encode("latin-1") if any(origin in site.origins for site in sites.values()) else b""

    def check_rate(self, caller: Caller, clicks: int) -> None:
        """Take the clicks from the member's and the site's buckets. Raises ``Refused`` with the time to wait."""
        per_s = self._settings.member_clicks_per_s
        if per_s > 0:
            self._take(b"m" + caller.member_id.encode(), per_s, self._settings.member_burst_clicks, clicks)
        sites = self._known_sites()
        if sites and caller.site_id:
            per_s = max((site.clicks_per_s for site in sites.values() if site.site_id == caller.site_id), default=0)
            if per_s > 0:
                burst = max(2 * per_s, self._settings.batch_max_clicks)
                self._take(b"s" + caller.site_id.encode(), per_s, burst, clicks)

    def _take(self, name: bytes, per_s: float, burst: float, clicks: int) -> None:
        wait_s = self._limits.callers.take(name, clicks, per_s=per_s, burst=burst, now_s=self._monotonic())
        if wait_s > 0:
            raise Refused(
                Reason.RATE_LIMITED, f"at most {per_s:g} clicks a second", retry_after_s=max(1, math.ceil(wait_s))
            )

    def _known_sites(self) -> Mapping[str, Site] | None:
        if self._sites is None:
            return None
        self._sites.changed()
        return self._sites.value

    def _site(self, request: Request) -> Site | None:
        """The site of the request's key. Once sites are configured, every browser request needs one."""
        sites = self._known_sites()
        if sites is None:
            return None
        key, origin = request.site_key, request.origin
        site = sites.get(key)
        if site is None:
            if key or origin:
                raise Refused(Reason.SITE_UNKNOWN, "no site has this key")
            return None
        if origin and origin not in site.origins:
            raise Refused(Reason.ORIGIN_FORBIDDEN, "the key belongs to another site")
        return site

    def _by_gateway(self, request: Request, sent: bytes) -> str:
        member_id = request.header(b"x-flattr-member").decode("latin-1")
        if not hmac.compare_digest(sent, self._gateway_secret) or not IDENTIFIER.fullmatch(member_id):
            raise Refused(Reason.TOKEN_INVALID, "not a trusted gateway")
        return member_id
