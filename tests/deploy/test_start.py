"""A command starts without what only services need: finance runs dozens in a row, and each costs its start."""

from __future__ import annotations

import subprocess
import sys


def test_help_imports_no_web_framework_no_driver_and_no_arrays() -> None:
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deploy", "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}
    assert "typer" in imported
    assert imported.isdisjoint({"fastapi", "starlette", "uvicorn", "clickhouse_driver", "numpy", "numba"})
