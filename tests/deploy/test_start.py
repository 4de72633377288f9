"""A command starts without what only services need: finance runs dozens in a row, and each costs its start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer.main

from deploy.cli.main import command_line
from tests.support.commands import app
from warehouse.storage.client import Warehouse

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group


def imported(*words: str, **environment: str) -> set[str]:
    """The packages that a command imports, which must succeed."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deploy", *words],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}


def test_help_imports_no_web_framework_no_driver_and_no_arrays() -> None:
    found = imported("--help")
    assert "typer" in found
    assert found.isdisjoint({"fastapi", "starlette", "uvicorn", "clickhouse_driver", "numpy", "numba"})


def test_command_that_reads_the_books_imports_no_arrays_no_client_of_kafka_and_no_log(warehouse: Warehouse) -> None:
    found = imported("pledges", "list", "2026-11", FLATTR_WAREHOUSE=warehouse.url)
    assert "clickhouse_driver" in found
    assert found.isdisjoint({"fastapi", "numpy", "numba", "pyarrow", "aiokafka", "structlog", "holidays"})


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_that_is_typed_is_found_and_is_the_same(name: str) -> None:
    found = typer.main.get_command(command_line(name)).commands[name]  # type: ignore[attr-defined]  # it is a group
    assert type(found) is type(COMMANDS[name])
    assert sorted(getattr(found, "commands", {})) == sorted(getattr(COMMANDS[name], "commands", {}))


def test_command_brings_no_other_modules_and_what_is_none_brings_all() -> None:
    assert typer.main.get_command(command_line("month")).commands.keys() == {"month"}  # type: ignore[attr-defined]
    assert typer.main.get_command(command_line("stack")).commands.keys() == COMMANDS.keys()  # type: ignore[attr-defined]
