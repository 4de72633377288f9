"""How long topics retain records; without the client of Kafka, which only their making needs."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ingest.runtime.base_settings import Settings


class TopicSettings(Settings):
    """How long topics retain records. Read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_")

    topic_clicks_days: int = Field(
        default=100,
        ge=35,
        description="Days for which the topic of clicks retains them. Must outlast a month, its close, and whatever is "
        "counted anew from the log: a replay, a restored backup. An erased member's clicks go with them.",
    )
    topic_rejected_days: int = Field(
        default=14,
        ge=1,
        description="Days for which the topic of refused input retains it: as long as streams may be away, "
        "which take it into the warehouse.",
    )
