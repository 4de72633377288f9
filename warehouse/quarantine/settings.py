"""Settings of the quarantine: the thresholds of its rules."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class QuarantineSettings(BaseSettings):
    """The thresholds by which `flattr quarantine scan` flags; read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_", frozen=True, extra="ignore")

    quarantine_velocity_max: int = Field(
        default=120,
        ge=1,
        description="The most flattrs of one member within the window; more flag the member, since people read first.",
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
        description="The share of a member's flattrs from one site, in percent, that flags the member. "
        "101 never flags.",
    )
    quarantine_site_share_creator_percent: int = Field(
        default=101,
        ge=1,
        le=101,
        description="The share of a creator's flattrs from one site, in percent, that flags the creator. "
        "101 never flags: most creators are flattred only on their own site.",
    )
    quarantine_ring_flattrs_min: int = Field(
        default=20, ge=1, description="The least flattrs of a member for one creator that can be part of a ring."
    )
    quarantine_ring_share_percent: int = Field(
        default=95,
        ge=51,
        le=100,
        description="The least share of a member's flattrs for one creator, in percent, that can be part of a ring.",
    )
    quarantine_ring_members_min: int = Field(
        default=3,
        ge=2,
        description="The least number of members who flattr one creator and hardly anybody else that makes a ring; "
        "fewer are devoted readers.",
    )
    quarantine_ring_creator_percent: int = Field(
        default=80,
        ge=1,
        le=100,
        description="The least share of the creator's flattrs from such a group, in percent, that makes it a ring: a "
        "creator whom many others flattr too is not one.",
    )
