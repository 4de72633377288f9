"""Generates docs/settings.md from the settings classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from deploy.provision.topic_days import TopicSettings
from ingest.runtime.trace_settings import TraceSettings
from ingest.settings import IngestSettings
from streams.settings import StreamsSettings
from warehouse.api.settings import ApiServerSettings, ApiSettings
from warehouse.payout.close.settings import CloseSettings
from warehouse.quarantine.settings import QuarantineSettings
from warehouse.storage.settings import BackupSettings, RetentionSettings
from warehouse.storage.topology import masked

#: Command -> the settings it reads.
READERS: Final[dict[str, tuple[type[BaseSettings], ...]]] = {
    "ingest": (IngestSettings, TraceSettings),
    "streams": (StreamsSettings, TraceSettings),
    "api": (ApiSettings, ApiServerSettings, TraceSettings),
    "month": (CloseSettings,),
    "quarantine": (QuarantineSettings,),
    "backup": (BackupSettings,),
    "warehouse migrate": (RetentionSettings,),
    "topics create": (TopicSettings,),
}
_HEAD: Final = """# Settings

Every setting is an environment variable, read once at the start of a service. This page
is written by `flattr settings`, from the code that reads them. Units stand last in a name.

| name | default | read by | what for |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    readers: tuple[str, ...]
    description: str


def settings() -> list[Setting]:
    """All settings, sorted by name. Of two descriptions of one setting, the longer is used."""
    found: dict[str, Setting] = {}
    for reader, model, attribute, field in _fields():
        name = _variable(model, attribute, field)
        before = found.get(name)
        told = field.description or ""
        if before is None:
            found[name] = Setting(name, _shown(field), (reader,), told)
        else:
            longer = max(before.description, told, key=len)
            found[name] = Setting(name, before.default, (*before.readers, reader), longer)
    return [found[name] for name in sorted(found)]


def fields() -> Iterator[tuple[str, str, str]]:
    """Settings class, field and variable of every setting."""
    for _, model, attribute, field in _fields():
        yield model.__name__, attribute, _variable(model, attribute, field)


def _fields() -> Iterator[tuple[str, type[BaseSettings], str, FieldInfo]]:
    for reader, models in READERS.items():
        for model in models:
            for attribute, field in model.model_fields.items():
                yield reader, model, attribute, field


def _variable(model: type[BaseSettings], attribute: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return alias if isinstance(alias, str) else (model.model_config.get("env_prefix", "") + attribute).upper()


def _shown(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=False)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ("", ()) or field.is_required():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):
        return str(value)
    return "{}" if value == {} else str(value)


def values(environment: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Name, value and whether the environment gives it, for every setting; secrets are masked."""
    secret = {
        _variable(model, attribute, field)
        for _, model, attribute, field in _fields()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
    for setting in settings():
        given = environment.get(setting.name)
        value = setting.default if given is None else given
        yield setting.name, _masked(value) if setting.name in secret else value, given is not None


def _masked(secret: str) -> str:
    return masked(secret) if "://" in secret else "***" if secret else ""


def markdown() -> str:
    """The page as Markdown."""
    lines = [
        f"| `{setting.name}` | {f'`{setting.default}`' if setting.default else ''} | {', '.join(setting.readers)} "
        f"| {setting.description.replace('|', '&#124;')} |"
        for setting in settings()
    ]
    return _HEAD + "\n".join(lines) + "\n"
