from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.running import adopt_running_stack, remove_environment, write_environment


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FLATTR_CLOCK", "system")
    monkeypatch.delenv("FLATTR_BROKER", raising=False)
    write_environment(tmp_path, {"FLATTR_BROKER": "127.0.0.1:1", "FLATTR_CLOCK": "+60"})
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def test_command_takes_what_it_was_not_told_from_the_running_stack(folder: Path) -> None:
    adopt_running_stack("month", folder)
    assert os.environ["FLATTR_BROKER"] == "127.0.0.1:1"
    assert os.environ["FLATTR_CLOCK"] == "system"
    del os.environ["FLATTR_BROKER"]


def test_shell_and_command_read_the_same_whatever_a_value_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = """{"ingest": "http://127.0.0.1:8001/ready", "it's": "$HOME `x` \\\\"}"""
    write_environment(tmp_path, {"FLATTR_API_PARTS": value})
    told = subprocess.run(
        ["sh", "-c", f'set -a; . "{tmp_path}/env"; printenv FLATTR_API_PARTS'],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told == f"{value}\n"
    monkeypatch.delenv("FLATTR_API_PARTS", raising=False)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        adopt_running_stack("month", tmp_path)
    assert os.environ.pop("FLATTR_API_PARTS") == value


def test_command_that_starts_its_own_stack_takes_nothing(folder: Path) -> None:
    adopt_running_stack("demo", folder)
    assert "FLATTR_BROKER" not in os.environ


def test_stack_that_has_stopped_is_not_found(folder: Path) -> None:
    remove_environment(folder)
    adopt_running_stack("month", folder)
    assert "FLATTR_BROKER" not in os.environ


def test_file_of_a_killed_stack_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLATTR_BROKER", raising=False)
    write_environment(tmp_path, {"FLATTR_BROKER": "127.0.0.1:1"})
    (tmp_path / "lock").touch()
    adopt_running_stack("month", tmp_path)
    assert "FLATTR_BROKER" not in os.environ
