"""`flattr bench NAME`: the figures, as JSON; one benchmark a module of benchmarks/. `flattr bench report`: the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

_Options = ParamSpec("_Options")
_Json = Annotated[Path | None, typer.Option("--json", help="write the figures to this file, too")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    bench = typer.Typer(help="Measure: each prints its figures as JSON.", no_args_is_help=True)
    bench.command("ingest")(ingest)
    bench.command("reads")(reads)
    bench.command("streams")(streams)
    bench.command("close")(close)
    bench.command("traces")(traces)
    bench.command("fuzz")(fuzz)
    bench.command("soak")(soak)
    bench.command("hostile")(hostile)
    bench.command("report")(report)
    app.add_typer(bench, name="bench")


def ingest(
    json: _Json = None,
    round_s: Annotated[float, typer.Option(min=0.2, help="length of one round")] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    soak_s: Annotated[float, typer.Option(min=0, help="seconds at half load to watch memory; 0 for none")] = 300,
    connections: Annotated[int, typer.Option(min=1)] = 256,
    broker: Annotated[str, typer.Option(help="HOST:PORT; otherwise Apache Kafka if fetched, else embedded")] = "",
) -> None:
    """Clicks a second through one ingest worker, against a bare server and a naive one."""
    from benchmarks.ingest import run

    _measure(json, run, round_s=round_s, rounds=rounds, soak_s=soak_s, connections=connections, broker=broker)


def reads(
    json: _Json = None,
    flattrs: Annotated[int, typer.Option(min=1000, help="in the month that is read")] = 10_000_000,
    seconds: Annotated[float, typer.Option(min=0.2, help="for each figure")] = 5,
    subscribers: Annotated[int, typer.Option(min=1, help="of the live stream")] = 1000,
) -> None:
    """Reads a second and their latency over a full month, while writes go on."""
    from benchmarks.reads import run

    _measure(json, run, flattrs=flattrs, seconds=seconds, subscribers=subscribers)


def streams(
    json: _Json = None,
    clicks: Annotated[int, typer.Option(min=1000, help="in blocks, per round")] = 400_000,
    singles: Annotated[int, typer.Option(min=1000, help="one to a record")] = 150_000,
    plain: Annotated[int, typer.Option(min=100, help="for plain Faust")] = 8_000,
    state: Annotated[int, typer.Option(min=1000, help="flattrs in memory for ratio_at_10m")] = 10_000_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    visible_s: Annotated[float, typer.Option(min=1, help="how long to measure visibility")] = 10,
) -> None:
    """Clicks a second through one stream worker, against a bare loop and plain Faust; recovery; visibility."""
    from benchmarks.streams import run

    _measure(json, run, clicks=clicks, singles=singles, plain=plain, state=state, rounds=rounds, visible_s=visible_s)


def close(
    json: _Json = None,
    pairs: Annotated[
        int, typer.Option(min=1000, help="of member and creator; half of them is measured too")
    ] = 10_000_000,
) -> None:
    """The month's close against one plain GROUP BY over the same month."""
    from benchmarks.close import run

    _measure(json, run, pairs=pairs)


def traces(
    json: _Json = None,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
) -> None:
    """What traces cost a request of the beacon: off, on and not drawn, drawn."""
    from benchmarks.traces import run

    _measure(json, run, rounds=rounds)


def fuzz(
    json: _Json = None,
    inputs: Annotated[int, typer.Option(min=100)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="the same requests for the same seed")] = 1,
    broker: Annotated[str, typer.Option(help="HOST:PORT; otherwise Apache Kafka if fetched, else embedded")] = "",
) -> None:
    """Hostile requests at one ingest worker: no 5xx, a reason for each refusal, flat memory, nothing lost."""
    from benchmarks.fuzz import run

    figures = _measure(json, run, inputs=inputs, seed=seed, broker=broker)
    wrong = [name for name in ("status_5xx", "without_reason", "unanswered") if figures[name]]
    if wrong or figures["accepted"] != figures["in_log"]:
        raise typer.Exit(1)


def soak(
    json: _Json = None,
    seconds: Annotated[float, typer.Option(min=10, help="how long at half load")] = 3600,
    every_s: Annotated[float, typer.Option(min=0.5, help="between two looks at memory and lag")] = 5,
) -> None:
    """The whole stack at half load: whether memory and lag stay flat, and everything adds up."""
    from benchmarks.soak import run

    _measure(json, run, seconds=seconds, every_s=every_s, say=lambda line: typer.echo(line, err=True))


def hostile(
    json: _Json = None,
    seconds: Annotated[float, typer.Option(min=2, help="length of each attack")] = 10,
    only: Annotated[str, typer.Option(help="only attacks whose name contains this")] = "",
) -> None:
    """Each known attack from outside against the real processes, with honest traffic beside it."""
    from benchmarks.hostile import run

    _measure(json, run, seconds=seconds, only=only, say=lambda line: typer.echo(line, err=True))


def report(
    source: Annotated[Path, typer.Option("--from", help="the folder with the JSON of one run")] = Path(".bench"),
    to: Annotated[Path, typer.Option(help="the page to write")] = Path("docs/figures.md"),
    readme: Annotated[Path | None, typer.Option(help="write the short table into this document, too")] = None,
) -> None:
    """Write the page of figures: machine, date, commit, and of each figure its goal and whether it is met."""
    import json

    from benchmarks.goals import BENCHES
    from benchmarks.report import marks, page, with_headlines
    from deploy.errors import CommandFailed

    files = [source / f"{bench.name}.json" for bench in BENCHES]
    try:
        runs = {file.stem: json.loads(file.read_text()) for file in files if file.exists()}
        if not runs:
            raise CommandFailed(f"{source} holds the JSON of no benchmark: run `make bench`")
        to.write_text(page(runs))
        if readme is not None:
            readme.write_text(with_headlines(readme.read_text(), runs))
    except (OSError, ValueError) as error:
        raise CommandFailed(f"no page of figures: {error}") from error
    judged = marks(runs)
    typer.echo(f"{to}   {judged.count('yes')} goals met, {judged.count('**no**')} missed")


def _measure(
    path: Path | None, run: Callable[_Options, dict[str, Any]], *args: _Options.args, **options: _Options.kwargs
) -> dict[str, Any]:
    """Run a benchmark and print its JSON, with where and of what it was measured."""
    import json

    from benchmarks.provenance import provenance

    begun = provenance()
    figures = {**run(*args, **options), **begun}
    text = json.dumps(figures, indent=2)
    typer.echo(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return figures
