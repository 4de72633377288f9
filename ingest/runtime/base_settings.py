"""What holds for every setting: read from the environment, frozen, and nothing that only looks like a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: No bytes, milliseconds or days of ours come near; beyond it other programs' integers end.
_INTEGER_MAX: Final = 1 << 53
#: Seconds, rates and shares: thirty years, beyond which sockets and timers take no time-out.
_FLOAT_MAX: Final = 1e9


class Settings(BaseSettings):
    """The base of all settings."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _names_a_path(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - of any type before it is checked
        """An empty path would be the folder in which the process happens to run."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, str) and not value.strip() and Path in (wanted, *get_args(wanted)):
            raise ValueError("is empty: name a file or folder, or leave it unset")
        return value

    @field_validator("*")
    @classmethod
    def _is_within_reach(cls, value: Any) -> Any:  # noqa: ANN401 - of any type
        largest = {int: _INTEGER_MAX, float: _FLOAT_MAX}.get(type(value))
        if largest is not None and value > largest:
            raise ValueError(f"should be at most {largest:.0f}")
        return value
