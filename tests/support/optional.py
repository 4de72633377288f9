"""What a machine may lack: a store that speaks S3, npm's packages, Debian's servers, helm, a cluster, Kafka, Chromium.

And the release before, in git's history. Which tests want one, and what is said without.

A test wants a part when it has the part's fixture, at whatever remove, or bears its mark. This is the one place that
recognises them: what a part needs is there for those tests alone, and hidden from all others, in this process and in
those that they start. So a test that does not say what it wants fails wherever it runs, not only where the part lacks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.proving.rig.cluster import cluster_missing
from deploy.stack.embedded import ROOT, kafka_missing

#: 0.2.0, as it was released.
RELEASE_BEFORE = "45f2ef4099c29a5312dd7b779e76ab957e714844"


@dataclass(frozen=True)
class Optional:
    """A part that a machine may lack; ``mark`` is the name of the pytest mark too."""

    mark: str
    fixture: str
    tests: str
    remedy: str
    #: The environment in which nobody finds it.
    hidden: Mapping[str, str]
    is_there: Callable[[], bool]

    @property
    def required(self) -> bool:
        """Whether its absence is an error: FLATTR_REQUIRE_KAFKA=1, and so on with BROWSER, NPM and CLUSTER."""
        return os.environ.get(f"FLATTR_REQUIRE_{self.mark.upper()}") == "1"

    def is_wanted_by(self, item: pytest.Item) -> bool:
        """Whether the test has the part's fixture or mark."""
        fixtures: Iterable[str] = getattr(item, "fixturenames", ())
        return self.fixture in fixtures or item.get_closest_marker(self.mark) is not None

    def line(self, left_out: int) -> str:
        """What is said of tests that did not run."""
        return f"not run: {left_out} test{'s' * (left_out != 1)} {self.tests}; {self.remedy}"


def chromium() -> str | None:
    """Chromium's path. FLATTR_HIDE_BROWSER=1 has it missing everywhere."""
    return None if os.environ.get("FLATTR_HIDE_BROWSER") == "1" else shutil.which("chromium")


def npm_packages() -> Path | None:
    """Where npm has put the packages of package.json. FLATTR_HIDE_NPM=1 has them missing everywhere."""
    found = Path(__file__).resolve().parents[2] / "node_modules"
    hidden = os.environ.get("FLATTR_HIDE_NPM") == "1"
    return found if not hidden and (found / "esbuild").is_dir() and shutil.which("node") else None


def debian_servers() -> bool:
    """Whether Prometheus, Alertmanager and nginx are here, and root, who gives them a network of their own."""
    hidden = os.environ.get("FLATTR_HIDE_DEBIAN") == "1"
    programs = ("prometheus", "promtool", "prometheus-alertmanager", "amtool", "nginx", "unshare", "setpriv", "ip")
    return not hidden and os.geteuid() == 0 and all(map(shutil.which, programs))


def has_release_before() -> bool:
    """Whether git has the commit of the release before. FLATTR_HIDE_HISTORY=1 has it missing everywhere."""
    if os.environ.get("FLATTR_HIDE_HISTORY") == "1" or shutil.which("git") is None:
        return False
    asked = ["git", "cat-file", "-e", f"{RELEASE_BEFORE}^{{commit}}"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode == 0


def chart_tools() -> Path | None:
    """Where helm and kubernetes-validate are. FLATTR_HIDE_HELM=1 has them missing everywhere."""
    found = Path(__file__).resolve().parents[2] / ".kubernetes/bin"
    hidden = os.environ.get("FLATTR_HIDE_HELM") == "1"
    return found if not hidden and (found.parent / "lock.sha256").exists() else None


def s3_bucket() -> str:
    """The bucket that S3_BUCKET names, http://KEY:SECRET@HOST:PORT/BUCKET; empty if it names none."""
    return "" if os.environ.get("FLATTR_HIDE_S3") == "1" else os.environ.get("S3_BUCKET", "")


S3 = Optional(
    mark="s3",
    fixture="bucket",
    tests="with a store that speaks S3",
    remedy="S3_BUCKET=http://KEY:SECRET@HOST:PORT/BUCKET names a bucket for them, such as one of moto's server",
    hidden={"FLATTR_HIDE_S3": "1"},
    is_there=lambda: bool(s3_bucket()),
)
HISTORY = Optional(
    mark="history",
    fixture="release_before",
    tests="of a rolling upgrade",
    remedy="`git fetch --unshallow` brings the release before, whose code they run",
    hidden={"FLATTR_HIDE_HISTORY": "1"},
    is_there=has_release_before,
)
NPM = Optional(
    mark="npm",
    fixture="npm",
    tests="with npm's packages",
    remedy="`make browser` installs them (needs Node 20 or later)",
    hidden={"FLATTR_HIDE_NPM": "1"},
    is_there=lambda: npm_packages() is not None,
)
HELM = Optional(
    mark="helm",
    fixture="helm",
    tests="of the Helm chart",
    remedy="`make kubernetes` fetches helm (needs Linux on x86-64)",
    hidden={"FLATTR_HIDE_HELM": "1"},
    is_there=lambda: chart_tools() is not None,
)
CLUSTER = Optional(
    mark="cluster",
    fixture="cluster_rig",
    tests="on a ClickHouse cluster",
    remedy="`make zookeeper` fetches what it lacks (needs Java 17, Maven and Linux on x86-64)",
    hidden={"FLATTR_HIDE_CLUSTER": "1"},
    is_there=lambda: cluster_missing() is None,
)
DEBIAN = Optional(
    mark="debian",
    fixture="debian",
    tests="with Debian's Prometheus, Alertmanager and nginx",
    remedy="`make debian` installs them (needs apt-get and root)",
    hidden={"FLATTR_HIDE_DEBIAN": "1"},
    is_there=debian_servers,
)
KAFKA = Optional(
    mark="kafka",
    fixture="apache_kafka",
    tests="on Apache Kafka",
    remedy="`make kafka` fetches it (needs Java 17 and Maven)",
    hidden={"FLATTR_HIDE_KAFKA": "1"},
    is_there=lambda: kafka_missing() is None,
)
BROWSER = Optional(
    mark="browser",
    fixture="chromium",
    tests="in Chromium",
    remedy="`make browser` installs it (needs apt-get and root)",
    # Playwright's driver is what every browser is started by.
    hidden={"FLATTR_HIDE_BROWSER": "1", "PLAYWRIGHT_NODEJS_PATH": os.devnull},
    is_there=lambda: chromium() is not None,
)
OPTIONAL = (S3, HISTORY, NPM, DEBIAN, HELM, CLUSTER, KAFKA, BROWSER)


def mark_all(items: Iterable[pytest.Item]) -> None:
    """Mark each test with what it wants, so that ``-m kafka`` and ``-m browser`` choose by it."""
    for item in items:
        for part in OPTIONAL:
            if part.is_wanted_by(item):
                item.add_marker(part.mark)


def absent() -> list[Optional]:
    """The parts that this machine lacks and that nobody requires."""
    return [part for part in OPTIONAL if not part.required and not part.is_there()]


@contextmanager
def only_what_it_wants(item: pytest.Item) -> Iterator[None]:
    """Hide from a test the parts that it does not want."""
    with pytest.MonkeyPatch.context() as patch:
        for part in OPTIONAL:
            if not part.is_wanted_by(item):
                for name, value in part.hidden.items():
                    patch.setenv(name, value)
        yield
