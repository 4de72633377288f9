"""The page of figures says what the JSON says: what was missed, what is absent, what is not of the run."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.goals import BENCHES, Bench, Figure, at_least, at_most, equal
from benchmarks.hostile import attacks
from benchmarks.provenance import provenance
from benchmarks.report import BEGIN, END, HEADLINES_MAX, headlines, mark, page, with_headlines
from deploy.errors import CommandFailed
from tests.support.commands import app

ROOT = Path(__file__).resolve().parents[2]
#: Where the figures of a benchmark are made; its own module is benchmarks/NAME.py otherwise.
CHAOS = ROOT / "deploy/proving/chaos/run.py"
NAMED = [pytest.param(bench, id=bench.name) for bench in BENCHES]


def stamped(commit: str = "abc1234", at: str = "2026-11-26T12:00:00+00:00", **figures: Any) -> dict[str, Any]:
    machine = {"cores": 2, "cpu": "AMD EPYC", "memory_mb": 8192, "python": "3.11.7", "kafka": None}
    return {**figures, "commit": commit, "clean": True, "measured_at": at, "load_average": 0.1, "machine": machine}


def close(**figures: Any) -> dict[str, Any]:
    return stamped(**{"pairs": 10_000_000, "ratio_to_scan": 3.1, "close_s": 4.25, **figures})


def row(text: str, key: str) -> list[str]:
    (found,) = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_figure_at_its_goal_meets_it_and_one_beyond_misses_it() -> None:
    assert row(page({"close": close(ratio_to_scan=3.5)}), "ratio_to_scan")[:4] == [
        "`ratio_to_scan`", "3.5 times", "≤ 3.5 times", "yes",
    ]  # fmt: skip
    missed = page({"close": close(ratio_to_scan=3.51)})
    assert row(missed, "ratio_to_scan")[3] == "**no**"
    assert "Of the goals 0 are met and 1 missed." in missed


@pytest.mark.parametrize(
    ("goal", "measured", "said"),
    [
        (at_least(10), 10, "yes"), (at_least(10), 9.99, "**no**"),
        (at_most(10), 10, "yes"), (at_most(10), 11, "**no**"),
        (equal(0), 0, "yes"), (equal(0), 1, "**no**"), (equal(0), [], "yes"), (equal(0), ["a: 1 is not 2"], "**no**"),
        (equal(True), True, "yes"), (equal(True), False, "**no**"),
        (equal("in_log"), 7, "yes"), (equal("in_log"), 6, "**no**"), (equal("nowhere"), 7, "not judged"),
        (None, 3, "no goal"),
    ],
)  # fmt: skip
def test_goal_says_which_way_is_better(goal: Any, measured: Any, said: str) -> None:
    figure = Figure("figure", "what it is", goal=goal)
    assert mark(Bench("b", "B", "b", (figure,)), figure, {"figure": measured, "in_log": 7}) == said


def test_run_smaller_than_the_goal_wants_is_not_judged() -> None:
    text = page({"close": close(pairs=5_000_000)})
    assert row(text, "ratio_to_scan")[3] == "not judged"
    assert "**Smaller than the goals are for:** they want pairs 10,000,000." in text
    assert "they want broker kafka." in page({"ingest": stamped(broker="embedded", p99_ms=1)})


def test_smaller_run_that_loses_something_has_missed_the_goal() -> None:
    assert row(page({"close": close(pairs=1000, balanced=False)}), "balanced")[3] == "**no**"
    assert row(page({"close": close(pairs=1000, balanced=True)}), "balanced")[3] == "not judged"


def test_goals_under_attack_are_for_all_attacks() -> None:
    (hostile,) = [bench for bench in BENCHES if bench.name == "hostile"]
    assert hostile.needs["attacks"] == len(attacks())


def test_absent_benchmarks_and_figures_are_said_to_be_absent() -> None:
    text = page({"close": close()})
    absent = text[text.index("## Not measured in this run") :]
    assert [line for line in absent.splitlines() if "close" in line] == []
    assert all(f"`{bench.command} --json" in absent for bench in BENCHES if bench.name != "close")
    assert row(text, "doubling")[1:4] == ["-", "≤ 1.9 times", "not measured"]


def test_page_names_machine_date_and_commit() -> None:
    text = page({"close": close()})
    for line in ("| date | 2026-11-26 12:00 UTC |", "| commit | `abc1234` |", "| processor | AMD EPYC, 2 cores |",
                 "| memory | 8.0 GB |", "| Kafka | not recorded |"):  # fmt: skip
        assert line in text
    assert "Not of this run" not in text
    assert "| commit | `abc1234`, with changes that are not committed |" in page({"close": {**close(), "clean": False}})


def test_files_of_another_day_commit_or_machine_are_named() -> None:
    others = {
        "ingest": stamped(at="2026-11-25T11:59:00+00:00", requests_per_s=1),
        "reads": stamped(commit="def5678", counts_per_s=1),
        "traces": {**stamped(off_us=9), "machine": {"cores": 64}},
        "streams": stamped(at="2026-11-25T12:01:00+00:00", clicks_per_s=1),
        "hostile": {"memory_growth_mb": 1},
    }
    text = page({"close": close(), **others})
    assert "- ingest: 1.0 days older\n- reads: commit `def5678`\n- traces: another machine\n" in text
    assert text.count("**Not of this run:**") == 4


def test_worst_of_several_attacks_is_named() -> None:
    each = {"trailers": {"honest_p99_ratio": 1.5}, "rubbish": {"honest_p99_ratio": 4.0}}
    text = page({"hostile": stamped(seconds=10.0, honest_p99_ratio=4.0, attacks=each)})
    assert row(text, "honest_p99_ratio")[1] == "4.0 times (rubbish)"


def test_table_of_the_readme_is_that_of_the_page() -> None:
    runs = {"close": close()}
    written = with_headlines(f"before\n{BEGIN}\nold\n{END}\nafter\n", runs)
    assert written == f"before\n{BEGIN}\n{headlines(runs)}{END}\nafter\n"
    assert headlines(runs) in page(runs)
    assert "| 4.25 s | `flattr bench close` |" in written
    with pytest.raises(ValueError, match="there is no <!--"):
        with_headlines("no marks", runs)


def test_table_of_the_readme_shows_no_smaller_run_and_none_of_another_day() -> None:
    older = stamped(at="2026-11-20T12:00:00+00:00", broker="kafka", state_flattrs=10_000_000, clicks_per_s=1)
    table = headlines(
        {"close": close(pairs=5_000_000), "streams": older, "chaos": stamped(faults=20, brokers=1, lost=0)}
    )
    assert table == "| figure | value | printed by |\n|---|---|---|\n"


def test_few_figures_are_for_the_readme() -> None:
    assert 0 < sum(bool(figure.headline) for bench in BENCHES for figure in bench.figures) <= HEADLINES_MAX


@pytest.mark.parametrize("bench", NAMED)
def test_figures_are_those_that_the_benchmark_prints(bench: Bench) -> None:
    printed = set.union(*map(printed_keys, sources(bench)))
    bounds = {figure.goal.bound for figure in bench.figures if figure.goal and isinstance(figure.goal.bound, str)}
    asked = {figure.key for figure in bench.figures} | bounds | set(bench.needs)
    assert {key for key in asked if not any(re.fullmatch(pattern, key) for pattern in printed)} == set()


def sources(bench: Bench) -> list[Path]:
    """Where its figures are made: one module, or a package of several."""
    if bench.name.startswith("chaos"):
        return [CHAOS]
    module = ROOT / f"benchmarks/{bench.name}"
    return sorted(module.glob("*.py")) if module.is_dir() else [module.with_suffix(".py")]


def printed_keys(module: Path) -> set[str]:
    """The keys of a module's dicts as patterns, for some are put together: ``f"{name}_p99_ms"``."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        keys = [*node.keys] if isinstance(node, ast.Dict) else [node.key] if isinstance(node, ast.DictComp) else []
        for key in keys:
            if isinstance(key, ast.Constant):
                found.add(re.escape(str(key.value)))
            elif isinstance(key, ast.JoinedStr):
                pieces = key.values
                found.add("".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in pieces))
    return found


def test_json_of_a_benchmark_says_where_and_of_what_it_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "bench" / "traces.json"
    # A process of its own: its exporters go on trying for a while, and say so when this one ends.
    command = [sys.executable, "-m", "deploy", "bench", "traces", "--rounds", "1", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert json.loads(done.stdout) == figures
    assert {"off_us", "commit", "clean", "measured_at", "load_average", "machine"} <= set(figures)
    (traces,) = [bench for bench in BENCHES if bench.name == "traces"]
    assert {figure.key for figure in traces.figures} <= set(figures)

    written = CliRunner().invoke(
        app, ["bench", "report", "--from", str(file.parent), "--to", str(tmp_path / "page.md")]
    )
    assert written.exit_code == 0, written.output
    assert (tmp_path / "page.md").read_text() == page({"traces": figures})


def test_copy_without_history_says_that_it_does_not_know_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.provenance.ROOT", tmp_path)
    assert {provenance()[name] for name in ("commit", "clean")} == {None}
    assert "| commit | not recorded |" in page({"traces": {**provenance(), "off_us": 9}})


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "report", "--from", str(tmp_path), "--to", str(tmp_path / "page.md")])
    assert isinstance(done.exception, CommandFailed)
    assert not (tmp_path / "page.md").exists()


def test_written_page_has_its_date_and_its_commit_and_is_the_readme_s_source() -> None:
    text = (ROOT / "docs/figures.md").read_text()
    assert re.search(r"^\| date \| \d{4}-\d\d-\d\d \d\d:\d\d UTC \|$", text, flags=re.MULTILINE)
    assert re.search(r"^\| commit \| (`[0-9a-f]{7,}`|not recorded)", text, flags=re.MULTILINE)
    quoted = (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert quoted.count("\n| ") <= HEADLINES_MAX
    assert quoted in text, "run: flattr bench report --readme README.md"


def test_marks_of_the_written_page_agree_with_its_own_numbers() -> None:
    """Nobody edits a figure by hand: a number and its goal, as they stand, give the mark that stands beside them."""
    better = {"≥": lambda a, b: a >= b, "≤": lambda a, b: a <= b, "=": lambda a, b: a == b}
    judged = 0
    for line in (ROOT / "docs/figures.md").read_text().splitlines():
        found = re.match(r"\| `\w+` \| ([\d.,]+)[^|]*\| ([≥≤=]) ([\d.,]+)[^|]*\| (yes|\*\*no\*\*) \|", line)
        if found:
            measured, direction, goal, said = found.groups()
            met = better[direction](float(measured.replace(",", "")), float(goal.replace(",", "")))
            assert said == ("yes" if met else "**no**"), line
            judged += 1
    assert judged
