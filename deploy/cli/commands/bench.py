"""`flattr bench NAME`: figures as JSON, each from a module of benchmarks/. `flattr bench report`: the page of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

_Options = ParamSpec("_Options")
_Json = Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    bench = typer.Typer(help="Benchmarks; each prints its figures as JSON.", no_args_is_help=True)
    bench.command("ingest")(ingest)
    bench.command("reads")(reads)
    bench.command("streams")(streams)
    bench.command("close")(close)
    bench.command("traces")(traces)
    bench.command("fuzz")(fuzz)
    bench.command("soak")(soak)
    bench.command("hostile")(hostile)
    bench.command("button")(button)
    bench.command("fleet")(fleet)
    bench.command("growth")(growth)
    bench.command("outage")(outage)
    bench.command("rivals")(rivals)
    bench.command("report")(report)
    app.add_typer(bench, name="bench")


def ingest(
    json: _Json = None,
    round_s: Annotated[float, typer.Option(min=0.2, help="seconds per round")] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    soak_s: Annotated[float, typer.Option(min=0, help="seconds at half load to monitor memory; 0: skip")] = 300,
    connections: Annotated[int, typer.Option(min=1)] = 256,
    broker: Annotated[str, typer.Option(help="HOST:PORT; default: Apache Kafka if fetched, else embedded")] = "",
) -> None:
    """Measure clicks per second through one ingest worker, compared with a bare server and a naive one."""
    from benchmarks.ingest import run

    _measure(json, run, round_s=round_s, rounds=rounds, soak_s=soak_s, connections=connections, broker=broker)


def reads(
    json: _Json = None,
    flattrs: Annotated[int, typer.Option(min=1000, help="flattrs in the month that is read")] = 10_000_000,
    seconds: Annotated[float, typer.Option(min=0.2, help="seconds per figure")] = 5,
    subscribers: Annotated[int, typer.Option(min=1, help="subscribers of the live stream")] = 1000,
) -> None:
    """Measure reads per second and their latency over a full month during writes."""
    from benchmarks.reads import run

    _measure(json, run, flattrs=flattrs, seconds=seconds, subscribers=subscribers)


def streams(
    json: _Json = None,
    clicks: Annotated[int, typer.Option(min=1000, help="clicks in blocks, per round")] = 400_000,
    singles: Annotated[int, typer.Option(min=1000, help="clicks in single records, per round")] = 150_000,
    plain: Annotated[int, typer.Option(min=100, help="clicks for plain Faust")] = 8_000,
    state: Annotated[int, typer.Option(min=1000, help="flattrs in memory for ratio_at_10m")] = 10_000_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    visible_s: Annotated[float, typer.Option(min=1, help="how long to measure visibility")] = 10,
) -> None:
    """Measure clicks per second through one stream worker, compared with plain Faust; recovery; visibility."""
    from benchmarks.streams import run

    _measure(json, run, clicks=clicks, singles=singles, plain=plain, state=state, rounds=rounds, visible_s=visible_s)


def close(
    json: _Json = None,
    pairs: Annotated[
        int, typer.Option(min=1000, help="pairs of member and creator; half as many are measured as well")
    ] = 10_000_000,
) -> None:
    """Measure the close of a month, compared with one plain GROUP BY over the same month."""
    from benchmarks.close import run

    _measure(json, run, pairs=pairs)


def traces(
    json: _Json = None,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
) -> None:
    """Measure what tracing costs a beacon request: off, on but not sampled, sampled."""
    from benchmarks.traces import run

    _measure(json, run, rounds=rounds)


def fuzz(
    json: _Json = None,
    inputs: Annotated[int, typer.Option(min=100)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="the same seed gives the same requests")] = 1,
    broker: Annotated[str, typer.Option(help="HOST:PORT; default: Apache Kafka if fetched, else embedded")] = "",
) -> None:
    """Send hostile requests to one ingest worker; fails on a 5xx, a refusal without a reason, or a lost click."""
    from benchmarks.fuzz import run

    figures = _measure(json, run, inputs=inputs, seed=seed, broker=broker)
    wrong = [name for name in ("status_5xx", "without_reason", "unanswered") if figures[name]]
    if wrong or figures["accepted"] != figures["in_log"]:
        raise typer.Exit(1)


def soak(
    json: _Json = None,
    seconds: Annotated[float, typer.Option(min=10, help="seconds at half load")] = 3600,
    every_s: Annotated[float, typer.Option(min=0.5, help="seconds between samples of memory and lag")] = 5,
) -> None:
    """Run the whole stack at half load and check that memory and lag stay flat and everything adds up."""
    from benchmarks.soak import run

    _measure(json, run, seconds=seconds, every_s=every_s, say=lambda line: typer.echo(line, err=True))


def hostile(
    json: _Json = None,
    seconds: Annotated[float, typer.Option(min=2, help="seconds per attack")] = 10,
    only: Annotated[str, typer.Option(help="only attacks whose name contains this")] = "",
) -> None:
    """Run each known attack from outside against the real processes, alongside honest traffic."""
    from benchmarks.hostile import run

    _measure(json, run, seconds=seconds, only=only, say=lambda line: typer.echo(line, err=True))


def button(
    json: _Json = None,
    presses: Annotated[int, typer.Option(min=2)] = 30,
) -> None:
    """Measure how soon a press shows on another reader's page, in Chromium."""
    from benchmarks.button import run

    _measure(json, run, presses=presses)


def fleet(
    json: _Json = None,
    pairs: Annotated[int, typer.Option(min=1000, help="pairs of member and creator in each of three months")] = 200_000,
    clicks: Annotated[int, typer.Option(min=1000, help="clicks that one worker counts, and two")] = 400_000,
    faults: Annotated[int, typer.Option(min=0, help="faults of the chaos run with replicas")] = 60,
) -> None:
    """Compare one server with a cluster of 2 x 2: seals, flushes, failover, restore, workers, growth, chaos."""
    from benchmarks.fleet import run
    from deploy.errors import CommandFailed
    from deploy.proving.rig.cluster import cluster_missing

    if reason := cluster_missing():
        raise CommandFailed(reason)
    figures = _measure(
        json, run, pairs=pairs, clicks=clicks, faults=faults, say=lambda line: typer.echo(line, err=True)
    )
    wrong = ("grow_lost", "grow_wrong", "chaos_lost", "chaos_double_counted", "chaos_wrong_counts")
    if not (figures["seals_equal"] and figures["restore_verified"]) or any(figures[name] for name in wrong):
        raise typer.Exit(1)


def outage(
    json: _Json = None,
    outage_s: Annotated[float, typer.Option(min=10, help="seconds that each part is away")] = 60,
    stall_s: Annotated[float, typer.Option(min=1, help="FLATTR_STREAMS_STALL_S of the run")] = 30,
    only: Annotated[str, typer.Option(help="only this part: kafka, warehouse, streams or ingest")] = "",
) -> None:
    """Kill and freeze each part under load: when it is said, when clicks count again, what was lost or doubled."""
    from benchmarks.outage import run

    figures = _measure(
        json, run, outage_s=outage_s, stall_s=stall_s, only=only, say=lambda line: typer.echo(line, err=True)
    )
    if figures["lost"] or figures["double_counted"] or figures["wrong"]:
        raise typer.Exit(1)


def growth(
    json: _Json = None,
    pairs: Annotated[int, typer.Option(min=8000, help="pairs of the largest month that is closed")] = 20_000_000,
    state: Annotated[int, typer.Option(min=3000, help="flattrs of the largest state of a worker")] = 30_000_000,
    flattrs: Annotated[int, typer.Option(min=1000, help="flattrs of the month that is read")] = 1_000_000,
    round_s: Annotated[float, typer.Option(min=0.5, help="seconds per round of requests")] = 5,
) -> None:
    """Measure how close and state grow with their size, and ingest and reads with two processes."""
    from benchmarks.growth import run

    _measure(json, run, pairs=pairs, state=state, flattrs=flattrs, round_s=round_s)


def rivals(
    *,
    json: _Json = None,
    pairs: Annotated[
        int, typer.Option(min=1000, help="pairs of member and creator in the month that is split")
    ] = 10_000_000,
    clicks: Annotated[int, typer.Option(min=1000, help="clicks in blocks that are counted, each round")] = 1_200_000,
    singles: Annotated[
        int, typer.Option(min=1000, help="clicks in single records that are counted, each round")
    ] = 600_000,
    round_s: Annotated[float, typer.Option(min=0.2, help="seconds per round of requests")] = 5,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[str, typer.Option(help="only this comparison: collecting, counting or splitting")] = "",
    fetch: Annotated[bool, typer.Option(help="fetch and build the rivals that are not there yet")] = True,
) -> None:
    """Compare Flattr with a Go collector, Kafka Streams, Bytewax, DuckDB and Polars; fails on a wrong result."""
    from benchmarks.rivals.run import COMPARISONS, run
    from deploy.errors import CommandFailed

    if only and only not in COMPARISONS:
        raise CommandFailed(f"there is no comparison {only!r}: one of {', '.join(COMPARISONS)}")
    figures = _measure(
        json, run, pairs=pairs, clicks=clicks, singles=singles, round_s=round_s, rounds=rounds, only=only, fetch=fetch,
        say=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if figures["wrong"]:
        raise typer.Exit(1)


def report(
    source: Annotated[Path, typer.Option("--from", help="folder with the JSON files of one run")] = Path(".bench"),
    to: Annotated[Path, typer.Option(help="the page to write")] = Path("docs/figures.md"),
    readme: Annotated[Path | None, typer.Option(help="also update the short table in this document")] = None,
) -> None:
    """Write the page of figures: machine, date, commit, and each figure with its goal and whether it is met."""
    import json

    from benchmarks.goals import BENCHES
    from benchmarks.report import marks, page, with_headlines
    from deploy.errors import CommandFailed

    files = [source / f"{bench.name}.json" for bench in BENCHES]
    try:
        runs = {file.stem: json.loads(file.read_text()) for file in files if file.exists()}
        if not runs:
            raise CommandFailed(f"{source} contains no benchmark results: run `make bench`")
        to.write_text(page(runs))
        if readme is not None:
            readme.write_text(with_headlines(readme.read_text(), runs))
    except (OSError, ValueError) as error:
        raise CommandFailed(f"cannot write the page of figures: {error}") from error
    judged = marks(runs)
    typer.echo(f"{to}   {judged.count('yes')} goals met, {judged.count('**no**')} missed")


def _measure(
    path: Path | None, run: Callable[_Options, dict[str, Any]], *args: _Options.args, **options: _Options.kwargs
) -> dict[str, Any]:
    """Run a benchmark and print its figures and provenance as JSON."""
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
