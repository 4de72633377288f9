"""Rivals that a machine lacks are left out and named; those that are there must come to the same results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rivals import tools
from benchmarks.rivals.collecting import allowed_cores, running_on
from benchmarks.rivals.counting import Counts, Look, Traffic, second_half
from benchmarks.rivals.run import COMPARISONS, run

ROOT = Path(__file__).resolve().parents[2]
RIVALS = {rival for rivals in COMPARISONS.values() for rival in rivals}


def everything(*, fetch: bool) -> dict[str, str]:
    """Who was missing in a small run of all comparisons."""
    figures = run(
        pairs=1000, clicks=1000, singles=1000, round_s=0.2, rounds=1, only="", fetch=fetch, say=lambda _line: None
    )
    assert set(figures) == {"wrong", "missing"}
    missing: dict[str, str] = figures["missing"]
    return missing


def test_rivals_that_nobody_built_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "BUILT", tmp_path)
    monkeypatch.setattr("benchmarks.rivals.counting.kafka_missing", lambda: None)
    missing = everything(fetch=False)
    assert set(missing) == RIVALS
    assert all("without --no-fetch" in why for why in missing.values())


def test_machine_without_their_tools_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "BUILT", tmp_path)
    monkeypatch.setattr("benchmarks.rivals.counting.kafka_missing", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = everything(fetch=True)
    assert missing["go"].startswith("install Go ")
    assert missing["kafka_streams"].startswith("install Maven")
    assert missing["bytewax"].startswith("install Python 3.11 or 3.12")
    assert missing["duckdb"] == missing["polars"]
    assert missing["polars"].startswith("install Python 3.11")


def test_without_kafka_nothing_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "BUILT", tmp_path)
    monkeypatch.setattr("benchmarks.rivals.counting.kafka_missing", lambda: "no Apache Kafka: run `make kafka`")
    assert {everything(fetch=False)[rival] for rival in COMPARISONS["counting"]} == {
        "no Apache Kafka: run `make kafka`"
    }


def test_rival_is_built_anew_after_its_sources_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "BUILT", tmp_path / "built")
    source = tmp_path / "source"
    runs: list[Path] = []
    for text in ("one", "one", "two"):
        source.write_text(text)
        tools._built("rival", [source], runs.append, fetch=True)
    assert len(runs) == 2


def test_command_runs_with_the_rivals_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "rivals.json"
    command = [sys.executable, "-m", "deploy", "bench", "rivals", "--no-fetch", "--only", "splitting", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--pairs", "1000", "--json", str(file)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    for rival in COMPARISONS["splitting"]:
        assert rival in figures["missing"] or figures[f"{rival}_wrong_amounts"] == 0
        assert (f"{rival} is left out: " in done.stderr) == (rival in figures["missing"])


def test_wrong_count_is_one_that_either_side_has_otherwise() -> None:
    right = Counts({"a": 2, "b": 1}, {"m": 3})
    assert right.wrong(Counts({"b": 1, "a": 2}, {"m": 3})) == 0
    assert right.wrong(Counts({"a": 2, "c": 1}, {"m": 4})) == 3


def test_rate_is_that_of_the_second_half_and_a_slow_look_makes_nobody_faster() -> None:
    looks = [Look(0, 0, 0.1), Look(1, 40, 1.1), Look(2, 60, 5), Look(6, 100, 6.5)]
    assert second_half(looks, 100) == 40 / 5.5
    assert second_half([Look(1, 0, 1), Look(3, 100, 5)], 100) == 25


def test_committed_offset_stands_for_the_clicks_of_the_records_below_it() -> None:
    traffic = Traffic("blocks", 500, 200, Counts({}, {}), {0: [200, 250], 1: [200, 250]})
    assert traffic.before({0: 0, 1: 1}) == 200
    assert traffic.before({0: 2, 1: 2}) == 500


def test_what_is_started_on_a_core_stays_there_and_its_parent_goes_back() -> None:
    before = allowed_cores()
    for some in (set(sorted(before)[-1:]), set[int]()):
        with running_on(some):
            child = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "from benchmarks.rivals.collecting import allowed_cores; print(*sorted(allowed_cores()))",
                ],
                capture_output=True,
                text=True,
                check=True,
            )
        assert set(map(int, child.stdout.split())) == (some or before)
        assert allowed_cores() == before


def test_versions_of_all_rivals_are_fixed() -> None:
    pom = (tools.SOURCES / "kafka_streams/pom.xml").read_text()
    assert len(re.findall(r"<version>[0-9.]+</version>", pom)) == pom.count("<version>")
    wanted = re.findall(r"^\t(\S+) (v\S+)", (tools.SOURCES / "collector_go/go.mod").read_text(), flags=re.MULTILINE)
    sums = (tools.SOURCES / "collector_go/go.sum").read_text()
    assert wanted
    assert all(f"{module} {version} h1:" in sums for module, version in wanted)
    for name in ("split", "bytewax"):
        locked = (tools.SOURCES / f"{name}.lock").read_text()
        for package in (tools.SOURCES / f"{name}.in").read_text().split():
            assert f"\n{package}==" in locked
