"""`flattr load`: generate traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import web_addresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.proving.load.run import LoadResult
    from deploy.proving.load.worker import Report

_Share = Annotated[float, typer.Option(min=0, max=1)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("load")(load)


def load(
    url: Annotated[
        list[str] | None, typer.Option(callback=web_addresses, help="ingest's address; may be repeated")
    ] = None,
    keys: Annotated[Path, typer.Option(envvar="FLATTR_TOKEN_KEYS", help="file of keys to sign members' tokens")] = Path(
        ".flattr/token-keys.json"
    ),
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="requests per second (open loop); default: closed loop")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="duration")] = 10,
    connections: Annotated[int, typer.Option(min=1, help="total over all processes")] = 32,
    processes: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(help="the same seed gives the same clicks")] = 1,
    members: Annotated[int, typer.Option(min=1)] = 1000,
    creators: Annotated[int, typer.Option(min=1)] = 100,
    retry_share: _Share = 0.03,
    duplicate_share: _Share = 0.05,
    undo_share: _Share = 0.02,
    malformed_share: _Share = 0.01,
    skew_share: Annotated[float, typer.Option(min=0, max=1, help="fraction of members whose clock is wrong")] = 0.02,
    batch_share: _Share = 0.1,
    burst_factor: Annotated[float, typer.Option(min=1, help="every ten seconds, one at this multiple of the rate")] = 3,
    clock: Annotated[str, typer.Option(envvar="FLATTR_CLOCK")] = "system",
    audience: Annotated[str, typer.Option(envvar="FLATTR_INGEST_TOKEN_AUDIENCE")] = "flattr",
    answers: Annotated[Path | None, typer.Option(help="folder in which to record every answer")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the result to this file")] = None,
) -> None:
    """Send realistic traffic to ingest and measure how it answers."""
    import dataclasses
    import json
    import os

    from deploy.errors import CommandFailed
    from deploy.proving.load.plan import LoadPlan
    from deploy.proving.load.run import LoadFailed, run_load
    from ingest.runtime.tokens import read_keys
    from ingest.runtime.watched_file import FileError

    try:
        read_keys(keys)
    except FileError as error:
        raise CommandFailed(f"cannot sign tokens with {keys}: {error}; name another file with --keys") from error
    ingest_port = os.environ.get("FLATTR_INGEST_PORT", "8001")
    urls = tuple(base.rstrip("/") + "/v1/clicks" for base in url or [f"http://127.0.0.1:{ingest_port}"])
    plan = LoadPlan(
        urls=urls, token_keys=str(keys.resolve()), rate=rate, seconds=seconds, connections=connections,
        processes=processes, seed=seed, members=members, creators=creators, retry_share=retry_share,
        duplicate_share=duplicate_share, undo_share=undo_share, malformed_share=malformed_share,
        skew_share=skew_share, batch_share=batch_share, burst_factor=burst_factor, clock=clock, audience=audience,
        answers=str(answers.resolve()) if answers else "",
    )  # fmt: skip
    try:
        result = run_load(plan, _progress(seconds))
    except LoadFailed as error:
        raise CommandFailed(str(error)) from error
    if json_file:
        json_file.write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    _print(result)


def _progress(seconds: float) -> Callable[[Report], None]:
    """A progress bar, if stderr is a terminal."""
    import atexit

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return lambda _: None
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
    )
    task = bars.add_task("load", total=seconds)
    bars.start()
    atexit.register(bars.stop)

    def show(report: Report) -> None:
        per_s = report.answered / report.seconds if report.seconds else 0
        text = f"{report.answered:,} answered ({per_s:,.0f}/s)  {report.waiting} waiting  {report.retries} retries"
        bars.update(task, completed=report.seconds, description=text)

    return show


def _print(result: LoadResult) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"{result.requests:,} requests in {result.seconds:.1f} s ({result.requests_per_s:,.0f}/s answered), "
        f"{result.retries:,} retries, {result.given_up:,} given up"
    )
    console.print(
        f"{result.clicks_sent:,} clicks sent: {result.clicks_accepted:,} accepted, {result.clicks_refused:,} refused"
    )
    console.print("answers by status: " + ", ".join(f"{code}: {count:,}" for code, count in result.statuses.items()))
    table = Table("ms", *result.attempt_ms)
    for name, latencies in (("until accepted", result.accepted_ms), ("one attempt", result.attempt_ms)):
        table.add_row(name, *(f"{value:.1f}" for value in latencies.values()))
    console.print(table)
