"""Settings of the quarantine: from where on a rule flags."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class QuarantineSettings(BaseSettings):
    """The bounds of the rules, read from the environment, frozen. They decide what `flattr quarantine scan` flags."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_", frozen=True, extra="ignore")

    quarantine_velocity_max: int = Field(
        default=120,
        ge=1,
        description="Flattrs of one member within the window; more flag the member. A person reads before clicking.",
    )
    quarantine_velocity_window_s: int = Field(
        default=600, ge=1, description="The window of the velocity rule, in seconds."
    )
    quarantine_site_flattrs_min: int = Field(
        default=200, ge=2, description="Below this many flattrs no share of a site means anything."
    )
    quarantine_site_share_member_percent: int = Field(
        default=100,
        ge=1,
        le=101,
        description="One site's share of a member's flattrs that flags the member, in percent; 101 never flags.",
    )
    quarantine_site_share_creator_percent: int = Field(
        default=101,
        ge=1,
        le=101,
        description="One site's share of a creator's flattrs that flags the creator, in percent. "
        "101 never flags, for most creators are flattred on their own site.",
    )
    quarantine_ring_flattrs_min: int = Field(
        default=20, ge=1, description="Flattrs of a member for one creator below which the two are in no ring."
    )
    quarantine_ring_share_percent: int = Field(
        default=95,
        ge=51,
        le=100,
        description="The part of a member's flattrs for one creator, in percent, from which on it may be a ring.",
    )
    quarantine_ring_members_min: int = Field(
        default=3,
        ge=2,
        description="So many members who flattr hardly anybody else make a group; fewer are devoted readers.",
    )
    quarantine_ring_creator_percent: int = Field(
        default=80,
        ge=1,
        le=100,
        description="The part of the creator's flattrs that comes from such a group, in percent, from which on "
        "it is one: a creator whom many others flattr too is no ring.",
    )
