"""`flattr up` and `flattr demo`: the stack in the foreground."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from deploy.stack.supervisor import Stack


def _port(told: str) -> Any:  # noqa: ANN401 - typer's own, which has no name of its kind
    return typer.Option(min=0, max=65535, help=told)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("demo")(demo)


def up(
    data: Annotated[Path, typer.Option(help="folder for data, keys and logs")] = Path(".flattr"),
    broker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="use this Kafka instead of the embedded one")
    ] = None,
    warehouse: Annotated[
        str | None, typer.Option(metavar="clickhouse://...", help="use this ClickHouse instead of the embedded one")
    ] = None,
    *,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="start Apache Kafka (`make kafka`), whose log survives, as the broker")
    ] = False,
    partitions: Annotated[int, typer.Option(min=1, help="partitions of the clicks topic, if it is created")] = 4,
    clock: Annotated[str, typer.Option(help="system, +SECONDS, -SECONDS or file:PATH")] = "system",
    broker_port: Annotated[int, _port("port of the broker that is started; 0: any free port")] = 9092,
    warehouse_port: Annotated[int, _port("port of the embedded warehouse; 0: any free port")] = 9000,
    warehouse_http_port: Annotated[int, _port("its port for HTTP; 0: any free port")] = 8123,
    ingest_port: Annotated[int, _port("0: any free port")] = 8001,
    streams_port: Annotated[int, _port("0: any free port")] = 8002,
    api_port: Annotated[int, _port("0: any free port")] = 8003,
) -> None:
    """Run the whole stack in the foreground; Ctrl-C stops it."""
    from deploy.errors import CommandFailed
    from deploy.stack.supervisor import Stack, StackPlan
    from ingest.runtime.clock import known_clock

    if kafka and broker:
        raise CommandFailed("--kafka starts a broker and --broker names another: give one of them")
    plan = StackPlan(
        folder=data,
        broker=broker,
        warehouse=warehouse,
        kafka=kafka,
        partitions=partitions,
        clock=known_clock(clock),
        broker_port=broker_port,
        warehouse_port=warehouse_port,
        warehouse_http_port=warehouse_http_port,
        ingest_port=ingest_port,
        streams_port=streams_port,
        api_port=api_port,
    )
    _stop_on_signals()
    with Stack(plan, typer.echo) as stack:
        typer.echo(f"pages      {stack.api.url}   live: counts, lag, services")
        typer.echo(
            f"           {stack.api.url}/months   months and their books   {stack.api.url}/verify   the equations"
        )
        typer.echo(f"           {stack.ingest.url}/demo   a page with the button")
        typer.echo(f"ready      POST {stack.ingest.url}/v1/clicks   (Ctrl-C stops everything)")
        try:
            while True:
                time.sleep(0.3)
                list(stack.watch())
        except KeyboardInterrupt:
            typer.echo("stopping: draining ingest, flushing streams")
    typer.echo("stopped")


def demo(
    members: Annotated[int, typer.Option(min=1)] = 1000,
    creators: Annotated[int, typer.Option(min=1)] = 100,
    clicks: Annotated[int, typer.Option(min=1)] = 20_000,
    seed: int = 7,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            exists=True,
            dir_okay=False,
            help="your own clicks instead of simulated ones, one JSON object per line",
        ),
    ] = None,
    figures: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
    data: Annotated[Path, typer.Option(help="folder for data, keys and logs; emptied first")] = Path(".flattr/demo"),
    broker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="use this Kafka instead of the embedded one")
    ] = None,
    minimum_minor: Annotated[
        int, typer.Option(min=0, help="minimum payout in cents; the default of a real close is 1000")
    ] = 100,
    exit_at_end: Annotated[  # noqa: FBT002 - an option, always passed by name
        bool, typer.Option("--exit", help="exit at the end even on a terminal")
    ] = False,
) -> None:
    """Run the whole pipeline once: send clicks, close the month, and show a payout table with every cent explained."""
    import json

    from rich.console import Console

    from deploy.cli.terminal import at_terminal, wait_for_key
    from deploy.demo.run import Demo, DemoPlan
    from deploy.proving.traffic import Traffic

    traffic = Traffic(members=members, creators=creators, clicks=clicks, seed=seed)
    plan = DemoPlan(traffic=traffic, source=source, folder=data, minimum_minor=minimum_minor, broker=broker)
    console = Console()

    def at_end(stack: Stack, found: dict[str, object]) -> None:
        if figures is not None:
            figures.write_text(json.dumps(found, indent=2) + "\n")
        if at_terminal() and not exit_at_end:
            console.print(
                f"The closed month: [bold]{stack.api.url}/months/{found['month']}[/]   Press any key to exit."
            )
            wait_for_key(lambda: list(stack.watch()))

    _stop_on_signals()
    if not Demo(plan, console).run(at_end)["balanced"]:
        raise typer.Exit(1)


def _stop_on_signals() -> None:
    # SIGINT as well: shells start background jobs with it ignored, and Python leaves it that way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
