"""Fixtures of the whole suite: real parts on free ports, started once per session.

``warehouse_server`` and ``embedded_broker`` are always there. ``kafka`` is Apache Kafka
from ``make kafka``; tests parametrised over ``broker`` run on both. Where Kafka was not
fetched those tests are deselected with a line in the report's header, unless
FLATTR_REQUIRE_KAFKA=1, which makes its absence an error. The same goes for tests that use
``browser`` (Chromium from ``make browser``) and FLATTR_REQUIRE_BROWSER=1.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from deploy.local import KAFKA_HOME, ApacheKafka, EmbeddedBroker, EmbeddedWarehouse, Part
from warehouse.client import Warehouse
from warehouse.migrate import migrate

KAFKA_FETCHED = any((KAFKA_HOME / "libs").glob("kafka_2.13-*.jar"))
KAFKA_REQUIRED = os.environ.get("FLATTR_REQUIRE_KAFKA") == "1"
CHROMIUM = shutil.which("chromium")
BROWSER_REQUIRED = os.environ.get("FLATTR_REQUIRE_BROWSER") == "1"
# The machine may be busy, with the suite's other worker to begin with: slowness is no failure of a property.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
_numbers = itertools.count(1)


def pytest_report_header() -> str:
    """Say which brokers the suite runs on."""
    brokers = "embedded, Apache Kafka" if KAFKA_FETCHED else "embedded only; `make kafka` adds Apache Kafka"
    return f"brokers: {brokers}; browser: {CHROMIUM or 'none; `make browser` adds Chromium'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of what is neither there nor required."""
    needing = [item for item in items if _misses(item)]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


def _misses(item: pytest.Item) -> bool:
    if "browser" in getattr(item, "fixturenames", ()) and not (CHROMIUM or BROWSER_REQUIRED):
        return True
    return _needs_kafka(item) and not (KAFKA_FETCHED or KAFKA_REQUIRED)


def _needs_kafka(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return not {"kafka", "kafka_fetched"}.isdisjoint(getattr(item, "fixturenames", ())) or (
        callspec is not None and callspec.params.get("broker") == "kafka"
    )


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's parts keep data and logs."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def warehouse_server(parts_folder: Path) -> Iterator[EmbeddedWarehouse]:
    """One ClickHouse for the session."""
    with EmbeddedWarehouse(parts_folder / "warehouse") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Of a module, not the session: its event loop must be gone when others want one."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def warehouse(warehouse_server: EmbeddedWarehouse) -> Iterator[Warehouse]:
    """A migrated database of the test's own."""
    database = Warehouse(f"{warehouse_server.url}/test_{next(_numbers)}")
    migrate(database)
    yield database
    database.command(f"DROP DATABASE {database.database} SYNC")
    database.close()


@pytest.fixture(scope="session")
def embedded_broker(parts_folder: Path) -> Iterator[EmbeddedBroker]:
    """One Tansu for the session: use topics of your own."""
    with EmbeddedBroker(parts_folder / "broker") as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(parts_folder: Path) -> Iterator[ApacheKafka]:
    """One Apache Kafka for the session: use topics of your own."""
    with ApacheKafka(parts_folder / "kafka") as broker:
        yield broker


@pytest.fixture
def kafka_fetched() -> None:
    """For tests that start Apache Kafka themselves, since they kill it."""
    if not KAFKA_FETCHED:
        pytest.fail("no Apache Kafka under .kafka: make kafka")


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> Part:
    """Each broker in turn, by its address."""
    name = "embedded_broker" if request.param == "embedded" else "kafka"
    part: Part = request.getfixturevalue(name)
    return part


@pytest.fixture
def topic() -> str:
    """A topic name that no other test uses."""
    return f"clicks-{os.getpid()}-{next(_numbers)}"
