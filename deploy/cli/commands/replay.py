"""`flattr replay`: recount a month from the log and compare it with what was counted."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("replay")(replay)


def replay(
    month: Annotated[str, typer.Option(help="YYYY-MM")],
    show: Annotated[int, typer.Option(min=0, help="how many differences to list")] = 20,
) -> None:
    """Recount a month from Kafka and compare it row by row with what was counted.

    Exits with code 1 if anything differs. Settings: FLATTR_* in the environment.
    """
    from rich.console import Console
    from rich.progress import Progress

    from deploy.errors import CommandFailed
    from streams.app import partitions_of
    from streams.replay import replay as replay_month
    from streams.settings import StreamsSettings
    from warehouse.payout.close.months import parse_month

    number = parse_month(month)
    settings = StreamsSettings()
    partitions = asyncio.run(partitions_of(settings))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"replaying {month}", total=None)
        found = asyncio.run(
            replay_month(
                settings, number, partitions, lambda done, total: progress.update(task, completed=done, total=total)
            )
        )
    typer.echo(f"{month}: {found.clicks} clicks in the log, {found.flattrs} flattrs replayed")
    for member, creator, thing, what in found.differences[:show]:
        typer.echo(f"  {what}: member {member}, creator {creator}, thing {thing}")
    for name in sorted({*found.tallies_counted, *found.tallies_replayed}):
        counted, replayed = found.tallies_counted.get(name, 0), found.tallies_replayed.get(name, 0)
        if counted != replayed:
            typer.echo(f"  {name}: counted {counted}, in the log {replayed}")
    if not found.same:
        differing = "1000 or more" if len(found.differences) == 1000 else len(found.differences)
        raise CommandFailed(f"{month} does not match the log: {differing} flattrs differ")
    typer.echo("every row and every tally matches")
