"""`flattr bench NAME`: the figures, as JSON. One benchmark a module of benchmarks/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

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

    _tell(run(round_s=round_s, rounds=rounds, soak_s=soak_s, connections=connections, broker=broker), json)


def reads(
    json: _Json = None,
    flattrs: Annotated[int, typer.Option(min=1000, help="in the month that is read")] = 10_000_000,
    seconds: Annotated[float, typer.Option(min=0.2, help="for each figure")] = 5,
    subscribers: Annotated[int, typer.Option(min=1, help="of the live stream")] = 1000,
) -> None:
    """Reads a second and their latency over a full month, while writes go on."""
    from benchmarks.reads import run

    _tell(run(flattrs=flattrs, seconds=seconds, subscribers=subscribers), json)


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

    figures = run(clicks=clicks, singles=singles, plain=plain, state=state, rounds=rounds, visible_s=visible_s)
    _tell(figures, json)


def close(
    json: _Json = None,
    pairs: Annotated[
        int, typer.Option(min=1000, help="of member and creator; half of them is measured too")
    ] = 10_000_000,
) -> None:
    """The month's close against one plain GROUP BY over the same month."""
    from benchmarks.close import run

    _tell(run(pairs), json)


def traces(
    json: _Json = None,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
) -> None:
    """What traces cost a request of the beacon: off, on and not drawn, drawn."""
    from benchmarks.traces import run

    _tell(run(rounds=rounds), json)


def fuzz(
    json: _Json = None,
    inputs: Annotated[int, typer.Option(min=100)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="the same requests for the same seed")] = 1,
    broker: Annotated[str, typer.Option(help="HOST:PORT; otherwise Apache Kafka if fetched, else embedded")] = "",
) -> None:
    """Hostile requests at one ingest worker: no 5xx, a reason for each refusal, flat memory, nothing lost."""
    from benchmarks.fuzz import run

    figures = run(inputs=inputs, seed=seed, broker=broker)
    _tell(figures, json)
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

    _tell(run(seconds=seconds, every_s=every_s, say=lambda line: typer.echo(line, err=True)), json)


def hostile(
    json: _Json = None,
    seconds: Annotated[float, typer.Option(min=2, help="length of each attack")] = 10,
    only: Annotated[str, typer.Option(help="only attacks whose name contains this")] = "",
) -> None:
    """Each known attack from outside against the real processes, with honest traffic beside it."""
    from benchmarks.hostile import run

    _tell(run(seconds=seconds, only=only, say=lambda line: typer.echo(line, err=True)), json)


def _tell(figures: Mapping[str, Any], path: Path | None) -> None:
    import json

    text = json.dumps(figures, indent=2)
    typer.echo(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
