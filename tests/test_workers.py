"""How the suite's tests are shared out, and where their files lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import scratch
from tests.support.workers import FIRST, WHOLE, place, scope

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", sorted({*FIRST, *WHOLE}))
def test_what_is_named_to_begin_first_exists(name: str) -> None:
    assert any(str(path.relative_to(ROOT)).startswith(name) for path in ROOT.glob("tests/*/test_*.py"))


def test_long_tests_begin_before_the_others_which_stay_in_order() -> None:
    found = ["tests/api/test_me.py::a", "tests/chaos/test_chaos.py::b", "tests/ingest/test_a.py::c", "tests/a.py::d"]
    assert sorted(found, key=place) == [found[1], found[0], *found[2:]]


def test_a_file_is_one_workers_and_so_is_the_folder_with_the_cluster() -> None:
    assert scope("tests/cluster/test_rig.py::test_a") == scope("tests/cluster/test_seals.py::test_b[1]")
    assert scope("tests/api/test_me.py::test_a[x]") == scope("tests/api/test_me.py::test_b")
    assert scope("tests/api/test_me.py::test_a") != scope("tests/api/test_lag.py::test_a")


def test_this_very_run_has_that_order(request: pytest.FixtureRequest) -> None:
    """What a worker of the suite was given; where one process runs all, they come as they are named."""
    places = [place(item.nodeid) for item in request.session.items]
    assert places == sorted(places) or not hasattr(request.config, "workerinput")


def test_processes_that_tests_start_compile_our_packages_once_for_all() -> None:
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_a_machine_with_little_memory_has_its_files_where_they_always_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_WANTED_BYTES", 1 << 60)
    assert scratch.in_memory() is None
