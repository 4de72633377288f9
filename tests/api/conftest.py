from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from pydantic import SecretStr

from ingest.runtime.clock import system_clock
from tests.conftest import Migrated
from tests.support.serving import serving
from warehouse.api.app import create_app
from warehouse.api.settings import ApiSettings
from warehouse.storage.client import Warehouse

#: 2026-11-20 12:00:00 UTC, where the tests' clock stands when they start.
NOON_MS: Final = 1795176000000


def settings_for(warehouse: Warehouse, **values: object) -> ApiSettings:
    """Settings of an app on that database, its clock at noon."""
    defaults: dict[str, object] = {
        "warehouse": SecretStr(warehouse.url),
        "clock": f"{(NOON_MS - system_clock()) / 1000:+.3f}",
        "api_lag_ttl_ms": 0,
    }
    return ApiSettings.model_validate({**defaults, **values})


@pytest.fixture(scope="session")
def idle_api(migrated: Migrated) -> Iterator[str]:
    """The read API on an empty database, for what writes nothing and counts nothing."""
    with migrated("idle") as database, serving(create_app(settings_for(database))) as url:
        yield url


@pytest.fixture
def api(warehouse: Warehouse) -> Iterator[str]:
    """The read API on a database of the test's own."""
    with serving(create_app(settings_for(warehouse))) as url:
        yield url
