"""Which address a request counts against, and how much one may hold: the same settings for every port."""

from __future__ import annotations

from pydantic import Field

from ingest.runtime.base_settings import Settings
from ingest.runtime.client_address import Networks


class AddressSettings(Settings):
    """A part of the settings of each server of ours; the share has the server's own prefix."""

    address_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Fraction of the connections and of the bytes that one address (or IPv6 /64) may hold. Set it to 1 "
        "behind a proxy that is not in FLATTR_TRUSTED_PROXIES.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        validation_alias="FLATTR_TRUSTED_PROXIES",
        description="Networks of reverse proxies, such as 10.0.0.0/8,192.0.2.7, whose X-Forwarded-For is trusted; "
        "they must set or extend that header. Unset: the client's address is the peer's.",
    )
