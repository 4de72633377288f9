"""Settings that every user of the warehouse shares."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from ingest.runtime.base_settings import Settings
from warehouse.storage.topology import Topology


def _read(url: SecretStr) -> SecretStr:
    Topology.of(url.get_secret_value())
    return url


class WarehouseSettings(Settings):
    """Where the warehouse is. Read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_")

    warehouse: Annotated[SecretStr, AfterValidator(_read)] = Field(
        default=SecretStr("clickhouse://127.0.0.1:9000/flattr"),
        description="ClickHouse over its native protocol: clickhouse://user:password@host:port/database, with TLS "
        "clickhouses://...?ca=FILE, a cluster as clickhouse://a,b+c,d/database?cluster=NAME (docs/design/cluster.md). "
        "Secret, since it may carry the password.",
    )
    warehouse_timeout_s: float = Field(
        default=60,
        gt=0,
        description="Timeout of one query in seconds. Longer than any insert or dashboard query takes; the month's "
        "close has its own.",
    )


class BackupSettings(Settings):
    """Where backups go. Read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_")

    backup_to: str = Field(
        default="disk:backups",
        description="Where `flattr backup` puts copies of the warehouse: disk:NAME, a disk of the server's "
        "that it allows for backups, or s3:https://HOST/BUCKET/FOLDER. The server writes there, not this process.",
    )
    backup_s3_key_id: SecretStr = Field(
        default=SecretStr(""),
        description="Access key for S3, also of `flattr archive`; empty: those of the server, or of the command.",
    )
    backup_s3_secret: SecretStr = Field(default=SecretStr(""), description="Its secret. Secret.")


class RetentionSettings(Settings):
    """How long tables keep what is no book entry. Read from the environment, frozen."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_")

    retain_log_ends_days: int = Field(
        default=1,
        ge=1,
        description="Days for which the ends of the log are kept: they date the counts, and only by the last hours.",
    )
    retain_locks_days: int = Field(
        default=90,
        ge=2,
        description="Days for which it is kept who held the close's lock: to find out afterwards what ran at once.",
    )
    retain_rejected_days: int = Field(
        default=90,
        ge=1,
        description="Days for which input that ingest refused is kept, to be repaired and sent in again. It may hold "
        "anything that somebody sent, so no longer than that takes.",
    )
    retain_replays_days: int = Field(
        default=30,
        ge=1,
        description="Days for which the copy of a month that `flattr replay` counted is kept: to look at differences.",
    )
    retain_provisional_days: int = Field(
        default=400,
        ge=35,
        description="Days for which provisional runs of a close are kept, their lines for 30 more: they are compared "
        "with the closed month, at the latest when the year is audited.",
    )
