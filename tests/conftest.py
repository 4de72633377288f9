"""Fixtures of the whole suite: real parts on free ports, started once per session.

``warehouse_server`` and ``embedded_broker`` are always there. ``kafka`` is Apache Kafka from ``make kafka``,
``browser`` is Chromium from ``make browser``, ``cluster_rig`` starts ClickHouse nodes with the ZooKeeper of
``make zookeeper``; tests parametrised over ``broker`` run on both brokers. Tests of what the
machine lacks are left out, and the last lines say so, unless FLATTR_REQUIRE_KAFKA=1 or FLATTR_REQUIRE_BROWSER=1 make
its absence an error. FLATTR_HIDE_KAFKA=1 and FLATTR_HIDE_BROWSER=1 have a machine lack what it has. npm's packages
are a third such part (FLATTR_REQUIRE_NPM, FLATTR_HIDE_NPM), the cluster is a fourth (FLATTR_REQUIRE_CLUSTER), Debian's
servers of `make debian` are a fifth (FLATTR_REQUIRE_DEBIAN, FLATTR_HIDE_DEBIAN), helm of `make kubernetes` is a sixth
(FLATTR_REQUIRE_HELM, FLATTR_HIDE_HELM), the code of the release before, in git's history, is a seventh
(FLATTR_REQUIRE_HISTORY, FLATTR_HIDE_HISTORY), a store that speaks S3 is an eighth: S3_BUCKET says where
(FLATTR_REQUIRE_S3, FLATTR_HIDE_S3).
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from deploy.proving.rig.cluster import Cluster, cluster_missing
from deploy.stack.embedded import ROOT, ApacheKafka, EmbeddedBroker, EmbeddedWarehouse, ServiceProcess, kafka_missing
from tests.support import optional
from tests.support.scratch import in_memory
from tests.support.workers import LongFirst, place
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate

#: What makes a migrated database for a purpose.
Migrated = Callable[[str], AbstractContextManager[Warehouse]]
#: How many tests were left out for want of each part. Each of the suite's workers collects all tests and counts them.
LEFT_OUT = pytest.StashKey[Counter[str]]()
# The machine may be busy, with the suite's other worker to begin with: slowness is no failure of a property.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest make its folders in memory, unless somebody has said where; the suite's workers have theirs in it."""
    # Hundreds of processes import our packages: let the first one compile them for the others.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder = in_memory()
    if config.option.basetemp is None and folder is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))


def pytest_report_header() -> list[str]:
    """Say what the suite cannot run on this machine."""
    return [f"{part.mark}: not here; {part.remedy}" for part in optional.absent()]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests before -m and -k choose among them; of those chosen leave out what cannot run here."""
    optional.mark_all(items)
    yield
    missing = optional.absent()
    needing = {item for item in items if any(part.is_wanted_by(item) for part in missing)}
    counts = Counter(part.mark for item in needing for part in missing if part.is_wanted_by(item))
    config.stash[LEFT_OUT] = counts
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = dict(counts)
    if needing:
        config.hook.pytest_deselected(items=list(needing))
        items[:] = [item for item in items if item not in needing]
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongFirst | None:
    """Share out by files in our own order."""
    return LongFirst(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what one of the suite's workers left out."""
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say last what did not run. To have left out all that was asked for is no failure."""
    left_out = session.config.stash.get(LEFT_OUT, Counter())
    if left_out and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    for part in optional.OPTIONAL:
        if terminal is not None and left_out[part.mark]:
            terminal.write_line(part.line(left_out[part.mark]), yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a test see of Apache Kafka and Chromium what it says that it wants."""
    with optional.only_what_it_wants(item):
        return (yield)


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's parts keep data and logs."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def warehouse_server(parts_folder: Path) -> Iterator[EmbeddedWarehouse]:
    """One ClickHouse for the session."""
    with EmbeddedWarehouse(parts_folder / "warehouse") as server:
        yield server


@pytest.fixture(scope="session")
def chromium() -> str:
    """Chromium's path. A fixture that starts a browser has this fixture: it is how tests that want one are known."""
    path = optional.chromium()
    if path is None:
        pytest.fail("no Chromium on the PATH: make browser")
    return path


@pytest.fixture(scope="session")
def release_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before, in a folder. It is how tests that want it are known."""
    if not optional.has_release_before():
        pytest.fail(f"git does not have the commit {optional.RELEASE_BEFORE}: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("release-before")
    packed = subprocess.run(
        ["git", "archive", optional.RELEASE_BEFORE], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout  # fmt: skip
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=packed, check=True)
    return folder


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder of npm's packages. It is how tests that want them are known."""
    found = optional.npm_packages()
    if found is None:
        pytest.fail("no packages of npm here: make browser")
    return found


@pytest.fixture(scope="session")
def bucket() -> str:
    """A bucket, http://KEY:SECRET@HOST:PORT/BUCKET. It is how tests that want a store that speaks S3 are known."""
    return optional.s3_bucket() or pytest.fail("S3_BUCKET names no bucket")


@pytest.fixture(scope="session")
def debian() -> None:
    """Debian's Prometheus, Alertmanager and nginx. It is how tests that want them are known."""
    if not optional.debian_servers():
        pytest.fail("no Prometheus, Alertmanager and nginx on the PATH, or not root: make debian")


@pytest.fixture(scope="session")
def helm() -> Path:
    """The folder of helm and kubernetes-validate."""
    return optional.chart_tools() or pytest.fail("there is no helm: make kubernetes")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Headless Chromium. Of a module, not the session: its event loop must be gone when others want one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def copies_of(server: EmbeddedWarehouse, database: str) -> Migrated:
    """What makes copies of a database, each for as long as it is wanted; a copy's name begins with the given one."""
    with closing(Warehouse(server.url)) as admin:
        admin.command(f"BACKUP DATABASE {database} TO Disk('backups', '{database}')")

    @contextmanager
    def copied(purpose: str) -> Iterator[Warehouse]:
        name = f"{purpose}_{next(_numbers)}"
        with closing(Warehouse(f"{server.url}/{name}")) as copy:
            with closing(Warehouse(server.url)) as admin:
                admin.command(f"RESTORE DATABASE {database} AS {name} FROM Disk('backups', '{database}')")
            yield copy
            copy.command(f"DROP DATABASE IF EXISTS {name} SYNC")

    return copied


@pytest.fixture(scope="session")
def migrated(warehouse_server: EmbeddedWarehouse) -> Migrated:
    """What makes a migrated database for as long as it is wanted; its name begins with the given one.

    They are copies of one: ClickHouse makes them in a fifth of the time of all migrations. Each copy has the same
    identity key.
    """
    with closing(Warehouse(f"{warehouse_server.url}/template")) as template:
        migrate(template)
    return copies_of(warehouse_server, "template")


@pytest.fixture
def warehouse(migrated: Migrated) -> Iterator[Warehouse]:
    """A migrated database of the test's own."""
    with migrated("test") as database:
        yield database


@pytest.fixture(scope="session")
def embedded_broker(parts_folder: Path) -> Iterator[EmbeddedBroker]:
    """One Tansu for the session: use topics of your own."""
    with EmbeddedBroker(parts_folder / "broker") as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_kafka() -> type[ApacheKafka]:
    """What starts Apache Kafka. A fixture that starts one has this one: it is how tests that want Kafka are known."""
    if reason := kafka_missing():
        pytest.fail(reason)
    return ApacheKafka


@pytest.fixture(scope="session")
def kafka(parts_folder: Path, apache_kafka: type[ApacheKafka]) -> Iterator[ApacheKafka]:
    """One Apache Kafka for the session: use topics of your own."""
    with apache_kafka(parts_folder / "kafka") as broker:
        yield broker


@pytest.fixture
def own_kafka(tmp_path: Path, apache_kafka: type[ApacheKafka]) -> Iterator[ApacheKafka]:
    """An Apache Kafka that a test may kill."""
    with apache_kafka(tmp_path / "own-kafka") as broker:
        yield broker


@pytest.fixture(scope="session")
def cluster_rig() -> type[Cluster]:
    """What starts a ClickHouse cluster. A fixture that starts one has this one: it is how its tests are known."""
    if reason := cluster_missing():
        pytest.fail(reason)
    return Cluster


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> ServiceProcess:
    """Each broker in turn, by its address."""
    name = "embedded_broker" if request.param == "embedded" else "kafka"
    part: ServiceProcess = request.getfixturevalue(name)
    return part


@pytest.fixture
def topic() -> str:
    """A topic name that no other test uses."""
    return f"clicks-{os.getpid()}-{next(_numbers)}"
