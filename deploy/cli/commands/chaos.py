"""`flattr chaos`: inject faults under load, and check that nothing is lost or counted twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_SHOWN = (
    "faults", "acked", "counted", "duplicates", "lost", "double_counted", "wrong_counts", "months_closed", "balanced",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("chaos")(chaos)


def chaos(
    faults: Annotated[int, typer.Option(min=0, help="number of faults")] = 20,
    seed: Annotated[int, typer.Option(help="seed of the clicks and the faults")] = 1,
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Kafka nodes; with 3, topics are replicated")] = 1,
    shards: Annotated[int, typer.Option(min=1, max=4, help="shards of the warehouse (`make zookeeper`)")] = 1,
    replicas: Annotated[int, typer.Option(min=1, max=3, help="replicas of each shard")] = 1,
    rate: Annotated[float, typer.Option(min=1, help="requests per second")] = 60,
    data: Annotated[Path | None, typer.Option(help="new folder in which to keep data, logs and answers")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the report to this file")] = None,
) -> None:
    """Run the stack on Apache Kafka under load and faults; fails if anything is lost, doubled or miscounted."""
    import json
    import tempfile
    import time

    from rich.console import Console

    from benchmarks.provenance import provenance
    from deploy.errors import CommandFailed
    from deploy.proving.chaos.run import ChaosPlan, run_chaos
    from deploy.proving.rig.cluster import cluster_missing

    console = Console(stderr=True, highlight=False)
    if data is not None and data.exists() and any(data.iterdir()):
        raise CommandFailed(f"{data} is not empty: name a new folder")
    if shards * replicas > 1 and (reason := cluster_missing()):
        raise CommandFailed(reason)
    begun = provenance()
    with tempfile.TemporaryDirectory(prefix="flattr-chaos-") as scratch:
        plan = ChaosPlan(
            data or Path(scratch),
            faults=faults,
            seed=seed,
            brokers=brokers,
            shards=shards,
            replicas=replicas,
            rate=rate,
        )
        began = time.monotonic()
        result = run_chaos(plan, lambda line: console.print(f"[dim]{time.monotonic() - began:6.1f}  {line}[/dim]"))
    report = {**result.report(), **begun}
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    for name in _SHOWN:
        typer.echo(f"{name:<15} {report[name]}")
    if not result.good:
        for line in [*report["problems"][:10], "", "The shortest history:", *report["history"]]:
            typer.echo(line)
        raise CommandFailed(f"seed {seed}: {len(result.verdict.problems)} problems found")
