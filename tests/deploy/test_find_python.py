"""Which Python the Makefile takes: the newest from 3.11 to 3.14 that works; others are skipped, with the reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.stack.embedded import ROOT


def interpreter(folder: Path, name: str, *, version: str = "", lacks: str = "") -> None:
    """This test's own Python under another name, of another version or without a module."""
    prelude = "import sys; "
    if version:
        major, minor = version.split(".")
        prelude += f"sys.version_info = ({major}, {minor}, 0, 'final', 0); "
    if lacks:
        prelude += f"sys.modules['{lacks}'] = None; "
    script = folder / name
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{prelude}exec(sys.argv[1])" "$2"\n')
    script.chmod(0o755)


def find(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """The script with nothing on the PATH but the folder and what the script itself needs."""
    for tool in ("sh", "head"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return subprocess.run(
        [ROOT / "deploy/find_python.sh", *names],
        env={"PATH": str(folder)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_newest_python_is_taken(tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.13", "python3.12"):
        interpreter(tmp_path, name)
    assert find(tmp_path).stdout.strip() == str(tmp_path / "python3.13")


def test_python_that_cannot_make_environments_is_passed_over_with_a_word(tmp_path: Path) -> None:
    interpreter(tmp_path, "python3.14", version="3.14", lacks="ensurepip")
    interpreter(tmp_path, "python3.12", version="3.12")
    found = find(tmp_path)
    assert found.stdout.strip() == str(tmp_path / "python3.12")
    assert "skipping python3.14: it cannot create virtual environments" in found.stderr
    assert "apt-get install python3.14-venv" in found.stderr


def test_python_that_does_not_run_is_passed_over_with_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "python3.13").write_text("#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    (tmp_path / "python3.13").chmod(0o755)
    interpreter(tmp_path, "python3", version="3.11")
    found = find(tmp_path)
    assert found.stdout.strip() == str(tmp_path / "python3")
    assert found.stderr == "skipping python3.13: pyenv: python3.13: command not found\n"


@pytest.mark.parametrize("version", ["3.10", "3.15"])
def test_python_that_is_too_old_or_too_new_is_refused_and_says_what_is_needed(tmp_path: Path, version: str) -> None:
    interpreter(tmp_path, "python3", version=version)
    found = find(tmp_path)
    assert found.returncode == 1
    assert f"it is {version}, but 3.11 to 3.14 is required" in found.stderr
    assert "install one, or run make PYTHON=/path/to/python3.13" in found.stderr


def test_python_that_is_named_is_taken_or_nothing(tmp_path: Path) -> None:
    interpreter(tmp_path, "python3.12")
    interpreter(tmp_path, "mine", version="3.10")
    assert find(tmp_path, str(tmp_path / "mine")).returncode == 1
