"""The committed button is what its source builds, small, and right in seeded evenings of trouble: Node runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "ingest/http/static/button.js"
#: 500 take three minutes; each is an evening of two members on three devices.
SEEDS = int(os.environ.get("FLATTR_BUTTON_SEEDS", "60"))


def node(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.mark.usefixtures("npm")
def test_committed_button_is_what_its_source_builds_and_within_its_bounds(tmp_path: Path) -> None:
    done = node("ingest/button/build.js", str(tmp_path / "button.js"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "button.js").read_bytes() == BUILT.read_bytes(), "make button"


@pytest.mark.usefixtures("npm")
@pytest.mark.timeout(60 + 4 * SEEDS)
def test_after_any_trouble_every_button_shows_what_the_server_has() -> None:
    done = node("tests/browser/button/chaos.mjs", "1", str(SEEDS), timeout_s=60 + 4 * SEEDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{SEEDS} evenings, "), done.stdout


def test_lock_of_npm_names_no_download_address() -> None:
    lines = (ROOT / "package-lock.json").read_text().splitlines()
    assert not [line for line in lines if '"resolved"' in line]
    assert [line for line in lines if '"integrity"' in line]
