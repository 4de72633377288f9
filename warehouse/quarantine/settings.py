"""Settings of the quarantine: the thresholds of its rules."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ingest.runtime.base_settings import Settings


class QuarantineSettings(Settings):
    """The thresholds by which `flattr quarantine scan` flags; read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_")

    quarantine_velocity_max: int = Field(
        default=120,
        ge=1,
        description="Maximum flattrs of one member within the window; more flag the member, since people read first.",
    )
    quarantine_velocity_window_s: int = Field(
        default=600, ge=1, description="The window of the velocity rule, in seconds."
    )
    quarantine_site_flattrs_min: int = Field(
        default=200, ge=2, description="The site rule ignores members and creators with fewer flattrs than this."
    )
    quarantine_site_share_member_percent: int = Field(
        default=100,
        ge=1,
        le=101,
        description="The share of a member's flattrs from one site, in percent, that flags the member; 101: never.",
    )
    quarantine_site_share_creator_percent: int = Field(
        default=101,
        ge=1,
        le=101,
        description="The share of a creator's flattrs from one site, in percent, that flags the creator; 101: never, "
        "because most creators have only one site.",
    )
    quarantine_ring_flattrs_min: int = Field(
        default=20, ge=1, description="Minimum flattrs of a member for one creator to be part of a ring."
    )
    quarantine_ring_share_percent: int = Field(
        default=95,
        ge=51,
        le=100,
        description="Minimum share of a member's flattrs that go to one creator, in percent, to be part of a ring.",
    )
    quarantine_ring_members_min: int = Field(
        default=3,
        ge=2,
        description="Minimum number of members who flattr one creator and hardly anybody else to make a ring; fewer "
        "are devoted readers.",
    )
    quarantine_ring_creator_percent: int = Field(
        default=80,
        ge=1,
        le=100,
        description="Minimum share of the creator's flattrs that come from such a group, in percent, to make it a "
        "ring; with many other supporters it is not one.",
    )
