"""Settings that every user of the warehouse shares."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class WarehouseSettings(BaseSettings):
    """Where the warehouse is. Read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_", frozen=True, extra="ignore")

    warehouse: SecretStr = Field(
        default=SecretStr("clickhouse://127.0.0.1:9000/flattr"),
        description="ClickHouse over its native protocol: clickhouse://user:password@host:port/database. "
        "Secret, since it may carry the password.",
    )
    warehouse_timeout_s: float = Field(
        default=60,
        gt=0,
        description="Timeout of one query in seconds. Longer than any insert or dashboard query takes; the month's "
        "close has its own.",
    )
