"""Who may click: a member by token, a trusted gateway for its members, a site by key and origin; and how often."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from ingest.bucket import Bucket
from ingest.click import IDENTIFIER, Reason, identifier
from ingest.refusal import Refused
from ingest.request import Request, body_token
from ingest.settings import IngestSettings
from ingest.tokens import Tokens
from ingest.validate import Caller
from ingest.watched import FileError, Watched

_BUCKETS_MAX: Final = 100_000


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the sites file. ``clicks_per_s`` 0 means no limit of the site's own."""

    site_id: str
    origins: list[str]
    clicks_per_s: float = 0


def read_sites(path: Path) -> dict[str, Site]:
    """Site key -> site. Raises ``FileError``."""
    try:
        sites = msgspec.json.decode(path.read_bytes(), type=dict[str, Site])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path} holds no sites (JSON object, key -> site_id, origins): {error}") from error
    for key, site in sites.items():
        try:
            identifier("site_id", site.site_id)
        except ValueError as error:
            raise FileError(f"{path}: site {key!r}: {error}") from None
        for origin in site.origins:
            if origin != origin.lower() or origin.count("/") != 2 or not origin.startswith(("http://", "https://")):
                raise FileError(f"{path}: {origin!r} of site {key!r} is no origin such as https://example.org")
    return sites


class Admission:
    """Decides who a request comes from and whether it comes too often."""

    def __init__(
        self, settings: IngestSettings, tokens: Tokens, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the sites file, if one is set. Raises ``FileError``."""
        self._settings = settings
        self._tokens = tokens
        self._monotonic = monotonic
        secret = settings.gateway_secret
        self._gateway_secret = secret.get_secret_value().encode() if secret else b""
        self._sites = Watched(settings.sites_file, read_sites, monotonic=monotonic) if settings.sites_file else None
        self._members: dict[str, Bucket] = {}
        self._site_buckets: dict[str, Bucket] = {}

    def caller(self, request: Request, body: bytes, media_type: bytes) -> Caller:
        """Who sends this. ``body`` is JSON already, and may carry the token. Raises ``Refused``."""
        site = self._site(request)
        site_id = site.site_id if site else ""
        if self._gateway_secret and (sent := request.header(b"x-flattr-gateway")):
            return Caller(self._by_gateway(request, sent), site_id)
        token = request.bearer or body_token(body, media_type)
        if not token and site is not None and request.origin in site.origins:
            # Any page can make a browser send its cookies: only a known page's count.
            token = request.cookie
        if not token:
            raise Refused(Reason.TOKEN_MISSING, "send a member token: Authorization: Bearer, or `token` in the body")
        return Caller(self._tokens.member(token), site_id)

    def origin_to_answer(self, request: Request) -> bytes:
        """The value of Access-Control-Allow-Origin, empty when the page may not read the answer."""
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
            self._take(self._members, caller.member_id, per_s, self._settings.member_burst_clicks, clicks)
        sites = self._known_sites()
        if sites and caller.site_id:
            per_s = max((site.clicks_per_s for site in sites.values() if site.site_id == caller.site_id), default=0)
            if per_s > 0:
                burst = max(2 * per_s, self._settings.batch_max_clicks)
                self._take(self._site_buckets, caller.site_id, per_s, burst, clicks)

    def _take(self, buckets: dict[str, Bucket], name: str, per_s: float, burst: float, clicks: int) -> None:
        now = self._monotonic()
        bucket = buckets.get(name)
        if bucket is None:
            if len(buckets) >= _BUCKETS_MAX:
                del buckets[next(iter(buckets))]
            bucket = buckets[name] = Bucket(per_s, burst, now)
        wait_s = bucket.take(clicks, now)
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
        """The site of the request's key. A browser's request needs one as soon as sites are configured."""
        sites = self._known_sites()
        if sites is None:
            return None
        key, origin = request.site_key, request.origin
        site = sites.get(key)
        if site is None:
            if key or origin:
                raise Refused(Reason.SITE_UNKNOWN, "this site has no such key here")
            return None
        if origin and origin not in site.origins:
            raise Refused(Reason.ORIGIN_FORBIDDEN, "the key belongs to another site")
        return site

    def _by_gateway(self, request: Request, sent: bytes) -> str:
        member_id = request.header(b"x-flattr-member").decode("latin-1")
        if not hmac.compare_digest(sent, self._gateway_secret) or not IDENTIFIER.fullmatch(member_id):
            raise Refused(Reason.TOKEN_INVALID, "not a gateway that we trust")
        return member_id
