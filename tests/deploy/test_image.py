"""What the production image holds: the wheel that deploy/images/Dockerfile installs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the project's wheel was unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    left_out = tuple(line.rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines())
    patterns = ["*.py", "*.sql", "*.html", "*.js", "*.css", "*.svg", "*.yml", "pyproject.toml", "README.md", "LICENSE"]
    tracked = subprocess.check_output(["git", "ls-files", "-z", *patterns], cwd=ROOT).decode()
    for name in filter(None, tracked.split("\0")):
        if any(name == entry or name.startswith(f"{entry}/") for entry in left_out):
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(source)], check=True, timeout=100)
    (wheel,) = folder.glob("*.whl")
    ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


#: As in the image: no checkout behind the installed packages.
_ALONE = (
    "import sys; sys.meta_path = [one for one in sys.meta_path if 'Editable' not in repr(one)]; "
    "from deploy.cli.main import main; main()"
)


def flattr(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _ALONE, *arguments]
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=installed, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_every_statement_page_and_migration_is_in_the_image(installed: Path) -> None:
    suffixes = {".sql", ".html", ".js", ".css", ".svg"}
    here = {
        path.relative_to(ROOT)
        for package in ("ingest", "streams", "warehouse")
        for path in (ROOT / package).rglob("*")
        if path.suffix in suffixes
    }
    assert here
    assert not [path for path in here if not (installed / path).exists()]


def test_secrets_of_compose_are_made_by_the_image(installed: Path, tmp_path: Path) -> None:
    made = flattr(installed, "secrets", "init", "--folder", str(tmp_path))
    assert made.returncode == 0, made
    assert (tmp_path / "alertmanager/alertmanager.yml").exists()


def test_user_of_the_image_may_write_where_compiled_functions_are_cached() -> None:
    text = (ROOT / "deploy/images/Dockerfile").read_text()
    (folder,) = re.findall(r"^ENV .*NUMBA_CACHE_DIR=(\S+)", text, re.MULTILINE)
    assert re.search(rf"install --directory --owner=flattr .*{folder}", text)


def test_load_chaos_demo_and_benchmarks_are_not_in_the_image_and_their_commands_say_so(installed: Path) -> None:
    assert not (installed / "deploy/proving").exists()
    assert not (installed / "benchmarks").exists()
    for arguments in (["load"], ["chaos", "--faults", "1"], ["demo"], ["bench", "close"]):
        result = flattr(installed, *arguments)
        assert result.returncode == 1, (arguments, result)
        assert "not part of the production image" in result.stderr, (arguments, result)
        assert "Traceback" not in result.stderr


def test_commands_of_operators_are_in_the_image(installed: Path) -> None:
    listed = flattr(installed, "settings")
    assert listed.returncode == 0, listed
    assert "FLATTR_INGEST_PORT" in listed.stdout
