"""On a machine without Apache Kafka and Chromium the suite is green and says what did not run; pytest run by pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = {"FLATTR_HIDE_KAFKA": "1", "FLATTR_HIDE_BROWSER": "1"}
KAFKA_LINE = re.compile(r"not run: (\d+) tests? on Apache Kafka; `make kafka` fetches it \(needs Java 17 and Maven\)")
BROWSER_LINE = re.compile(r"not run: (\d+) tests? in Chromium; `make browser` installs it \(needs apt-get and root\)")
#: Each of these starts pytest anew, once with two workers.
pytestmark = pytest.mark.timeout(240)
#: Both brokers in turn, a browser, and tests that want neither.
SOME = ("tests/contracts/test_broker.py", "tests/api/test_pages_in_browser.py", "tests/chaos/test_arena.py")


def run_pytest(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLATTR_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        env={**clean, "PYTHONPATH": str(ROOT), **environment}, cwd=ROOT,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def last_lines(done: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    """How many tests on Kafka and in Chromium the last two lines say did not run."""
    lines = done.stdout.splitlines()[-2:]
    kafka, browser = KAFKA_LINE.fullmatch(lines[0]), BROWSER_LINE.fullmatch(lines[1])
    assert kafka, done.stdout
    assert browser, done.stdout
    return int(kafka[1]), int(browser[1])


def test_suite_without_kafka_and_browser_is_green_and_says_last_what_did_not_run() -> None:
    done = run_pytest("-n", "2", "-k", "browser or seed or kafka", *SOME, **HIDDEN)
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* passed", done.stdout)
    all_there = run_pytest("--collect-only", "-q", *SOME, FLATTR_REQUIRE_KAFKA="1", FLATTR_REQUIRE_BROWSER="1").stdout
    assert last_lines(done) == (all_there.count("[kafka"), all_there.count("in_browser.py::")), all_there


def test_to_have_left_out_all_that_was_asked_for_is_no_failure() -> None:
    done = run_pytest("-m", "kafka or browser", *SOME, **HIDDEN)
    assert done.returncode == 0, done.stdout
    assert min(last_lines(done)) > 0


def test_what_nobody_left_out_is_not_spoken_of_and_no_test_at_all_stays_an_error() -> None:
    done = run_pytest("-k", "no-test-is-called-this", *SOME, **HIDDEN)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "not run:" not in done.stdout


def test_what_is_required_and_not_there_is_an_error() -> None:
    done = run_pytest("-m", "kafka or browser", *SOME, **HIDDEN, FLATTR_REQUIRE_KAFKA="1", FLATTR_REQUIRE_BROWSER="1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "Apache Kafka is hidden" in done.stdout
    assert "no Chromium on the PATH: make browser" in done.stdout
    assert "passed" not in done.stdout.splitlines()[-1]


SECRETIVE = """
import subprocess
import sys
import deploy.stack.embedded
import playwright.sync_api

def test_kafka(tmp_path):
    deploy.stack.embedded.ApacheKafka(tmp_path)

def test_kafka_in_another_process():
    command = "from deploy.stack.embedded import kafka_missing; assert not kafka_missing()"
    subprocess.run([sys.executable, "-c", command], check=True)

def test_browser():
    playwright.sync_api.sync_playwright().start().stop()
"""


def test_who_wants_kafka_or_a_browser_and_does_not_say_so_fails_where_they_are_there_too(tmp_path: Path) -> None:
    (tmp_path / "test_secretive.py").write_text(SECRETIVE)
    done = run_pytest("-p", "tests.conftest", "--rootdir", str(ROOT), "-c", "pyproject.toml", str(tmp_path))
    assert re.search(r"\b3 failed\b", done.stdout.splitlines()[-1]), done.stdout
