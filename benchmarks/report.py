"""The page of figures, from the JSON of one run on one machine.

    flattr bench report --from .bench --to docs/figures.md

Pure: the JSON files by name (``{"ingest": {...}}``) in, Markdown out. What is absent is said to be absent, and what
is of another day, commit or machine than the newest file is said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from benchmarks.goals import BENCHES, Bench, Figure

#: The JSON of each benchmark by its name.
Runs = Mapping[str, Mapping[str, Any]]
Mark = Literal["yes", "**no**", "not judged", "no goal", "not measured"]

#: Files that lie further apart than this are not one run.
RUN_MAX: Final = timedelta(days=1)
#: The README shows what a reader asks first, no more.
HEADLINES_MAX: Final = 5
BEGIN: Final = "<!-- written by `flattr bench report` -->"
END: Final = "<!-- end of what is written -->"
_HEAD: Final = """\
# Figures

Written by `flattr bench report` from the JSON that each benchmark prints; the goals stand in `benchmarks/goals.py`.
Client, Kafka, ClickHouse and Flattr share the machine, and rates fall when it does something else meanwhile. A ratio
compares two sides that were measured in turns, so it says more.
"""
_UNKNOWN: Final = "not recorded"


def page(runs: Runs) -> str:
    """The whole page. ``runs`` holds at least one file."""
    sections = [_HEAD, _machine(runs), _summary(runs)]
    if strangers := _strangers(runs):
        sections.append(
            "**Not of this run:**\n\n" + "\n".join(f"- {name}: {why}" for name, why in strangers.items()) + "\n"
        )
    sections.append("## In short\n\n" + headlines(runs))
    sections += [
        _section(bench, runs[bench.name], strangers.get(bench.name, "")) for bench in BENCHES if bench.name in runs
    ]
    return "\n".join(filter(None, [*sections, _absent(runs)]))


def headlines(runs: Runs) -> str:
    """The README's table. A line promises the size of its goal: a smaller run, or one of another day, has none."""
    strangers = _strangers(runs)
    rows = [
        f"| {figure.headline} | {_shown(figure, runs[bench.name][figure.key])} | `{bench.command}` |"
        for bench in BENCHES
        if bench.name in runs and bench.name not in strangers and not _lacks(bench, runs[bench.name])
        for figure in bench.figures
        if figure.headline and figure.key in runs[bench.name]
    ]
    return "\n".join(["| figure | value | printed by |", "|---|---|---|", *rows, ""])


def with_headlines(text: str, runs: Runs) -> str:
    """A document with the table between its two marks written anew. Raises ``ValueError`` when it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} with {END} behind it")
    return f"{before}{BEGIN}\n{headlines(runs)}{END}{after}"


def mark(bench: Bench, figure: Figure, run: Mapping[str, Any]) -> Mark:
    """What to say of one figure.

    A smaller run than the goal is for meets nothing; but a click that it lost, say, it has lost: it can miss a goal
    that asks for equality.
    """
    if figure.key not in run:
        return "not measured"
    if figure.goal is None:
        return "no goal"
    bound = run.get(figure.goal.bound) if isinstance(figure.goal.bound, str) else figure.goal.bound
    if bound is None:
        return "not judged"
    measured = _number(run[figure.key])
    met = {"≥": measured >= bound, "≤": measured <= bound, "=": measured == bound}[figure.goal.direction]
    if _lacks(bench, run) and (met or figure.goal.direction != "="):
        return "not judged"
    return "yes" if met else "**no**"


def marks(runs: Runs) -> list[Mark]:
    """Of all figures of all benchmarks."""
    return [mark(bench, figure, runs.get(bench.name, {})) for bench in BENCHES for figure in bench.figures]


def _lacks(bench: Bench, run: Mapping[str, Any]) -> list[str]:
    """What of the goals' size this run does not have, as `pairs 10,000,000`."""
    return [
        f"{key} {_text(needed)}"
        for key, needed in bench.needs.items()
        if (run.get(key) != needed if isinstance(needed, str) else _number(run.get(key, 0)) < needed)
    ]


def _newest(runs: Runs) -> Mapping[str, Any]:
    return max(runs.values(), key=lambda run: str(run.get("measured_at", "")))


def _strangers(runs: Runs) -> dict[str, str]:
    """Files that are not of the newest one's run, and why. What a file does not record is not held against it."""
    newest = _newest(runs)
    found = {}
    for name, run in runs.items():
        other = {
            what for what in ("commit", "machine") if run.get(what) and newest.get(what) and run[what] != newest[what]
        }
        reasons = [f"commit `{run['commit']}`"] if "commit" in other else []
        if "machine" in other:
            reasons.append("another machine")
        at, newest_at = _at(run), _at(newest)
        if at and newest_at and newest_at - at > RUN_MAX:
            reasons.append(f"{(newest_at - at).total_seconds() / 86400:.1f} days older")
        if reasons:
            found[name] = ", ".join(reasons)
    return found


def _at(run: Mapping[str, Any]) -> datetime | None:
    return datetime.fromisoformat(run["measured_at"]).astimezone(UTC) if "measured_at" in run else None


def _machine(runs: Runs) -> str:
    newest = _newest(runs)
    machine = newest.get("machine", {})
    memory_mb = machine.get("memory_mb")
    rows = {
        "date": _date(newest),
        "commit": _commit(newest),
        "processor": f"{machine.get('cpu', _UNKNOWN)}, {machine.get('cores', newest.get('cores', '?'))} cores",
        "memory": f"{memory_mb / 1024:.1f} GB" if memory_mb else _UNKNOWN,
        "system": machine.get("system") or _UNKNOWN,
        "Python": machine.get("python") or _UNKNOWN,
        "ClickHouse": machine.get("clickhouse") or _UNKNOWN,
        "Kafka": machine.get("kafka") or _UNKNOWN,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""])


def _date(run: Mapping[str, Any]) -> str:
    at = _at(run)
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else _UNKNOWN


def _commit(run: Mapping[str, Any]) -> str:
    if not run.get("commit"):
        return _UNKNOWN
    tree = {True: "", False: ", with changes that are not committed"}.get(run.get("clean", True), "")
    return f"`{run['commit']}`{tree}"


def _summary(runs: Runs) -> str:
    of = marks(runs)
    text = f"Of the goals {of.count('yes')} are met and {of.count('**no**')} missed."
    if "not judged" in of:
        text += f" {of.count('not judged')} are not judged, for the run was smaller than they want."
    return text + "\n"


def _absent(runs: Runs) -> str:
    absent = [f"- {bench.title}: `{_command(bench)}`" for bench in BENCHES if bench.name not in runs]
    return "\n".join(["## Not measured in this run", "", *absent, ""]) if absent else ""


def _command(bench: Bench) -> str:
    """By which the file came to be where the report finds it."""
    return f"{bench.command} --json .bench/{bench.name}.json"


def _section(bench: Bench, run: Mapping[str, Any], stranger: str) -> str:
    said = [_date(run), f"commit {_commit(run)}", f"load average before {run.get('load_average', _UNKNOWN)}"]
    said += [f"{key} {_text(run[key])}" for key in ("connections", *bench.needs) if key in run]
    text = f"## {bench.title}\n\n    {_command(bench)}\n\n{'; '.join(said)}.\n"
    if stranger:
        text += f"**Not of this run:** {stranger}.\n"
    if lacks := _lacks(bench, run):
        text += f"**Smaller than the goals are for:** they want {', '.join(lacks)}.\n"
    rows = (
        [f"`{figure.key}`", _measured(figure, run), _goal(figure), mark(bench, figure, run), figure.meaning]
        for figure in bench.figures
    )
    table = ["| figure | measured | goal | met | what it is |", "|---|---|---|---|---|"]
    return "\n".join([text, *table, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _measured(figure: Figure, run: Mapping[str, Any]) -> str:
    return _shown(figure, run[figure.key]) + _where(figure, run) if figure.key in run else "-"


def _where(figure: Figure, run: Mapping[str, Any]) -> str:
    """Of the worst of several attacks: which."""
    worst = [name for name, one in run.get("attacks", {}).items() if one.get(figure.key) == run[figure.key]]
    return f" ({worst[0]})" if len(worst) == 1 else ""


def _goal(figure: Figure) -> str:
    goal = figure.goal
    if goal is None:
        return "-"
    if isinstance(goal.bound, str):
        return f"{goal.direction} `{goal.bound}`"
    return f"{goal.direction} {_shown(figure, goal.bound)}"


def _shown(figure: Figure, value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    return f"{_text(value)} {figure.unit}".rstrip()


def _text(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """As a person reads it: thousands divided, yes and no, of several how many."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{_number(value):,}"


def _number(value: Any) -> float:  # noqa: ANN401 - whatever JSON holds
    return len(value) if isinstance(value, list | dict) else value
