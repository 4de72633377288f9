"""`flattr subscriptions`: flattrs that repeat every month."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cli.finance import clock, settings, warehouse

Month = Annotated[str, typer.Argument(help="YYYY-MM; default: the current month", metavar="YYYY-MM")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    subscriptions = typer.Typer(help="Flattrs that repeat every month.", no_args_is_help=True)
    subscriptions.command("post")(post)
    subscriptions.command("list")(list_subscriptions)
    app.add_typer(subscriptions, name="subscriptions")


def post(
    month: Month = "",
    *,
    none: Annotated[
        bool, typer.Option("--none", help="post nothing: the month is to close without its subscriptions")
    ] = False,
) -> None:
    """Post the flattrs of a month's subscriptions. For the first of every month; safe to repeat at any time in it."""
    import asyncio
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import Progress

    from deploy.cli.post_subscriptions import post as post_month
    from deploy.errors import CommandFailed
    from ingest.contract.month import month_of, month_start_ms, month_text
    from ingest.settings import IngestSettings
    from warehouse.payout.close.months import cutoff_ms, parse_month
    from warehouse.payout.close.proof import stored
    from warehouse.subscriptions.standing import note_posted

    now_ms = clock()()
    number = parse_month(month) if month else month_of(now_ms)
    name = month_text(number)
    if stored(warehouse(), number) is not None:
        raise CommandFailed(f"{name} is closed: its subscriptions were posted, or left out for good.")
    if now_ms < month_start_ms(number):
        raise CommandFailed(f"{name} has not begun: post its subscriptions from the first day on.")
    if none:
        note_posted(warehouse(), number, 0, now_ms)
        typer.echo(f"{name} may close without the flattrs of its subscriptions")
        return
    over_ms = cutoff_ms(number, settings().grace_s)
    if now_ms >= over_ms:
        over = datetime.fromtimestamp(over_ms / 1000, UTC)
        raise CommandFailed(
            f"{name} took clicks until {over:%Y-%m-%d %H:%M:%S} UTC: flattrs that are posted now would be late, and "
            "never count. To close the month without them, add --none."
        )
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(f"subscriptions of {name}", total=None)
        done = asyncio.run(
            post_month(IngestSettings(), warehouse(), number, clock(), lambda count: bars.update(bar, completed=count))
        )
    typer.echo(f"{name}: {done.sent} flattrs of subscriptions posted, {done.known} were there already")


def list_subscriptions(
    month: Month = "", member: Annotated[str, typer.Option(help="this member's alone")] = ""
) -> None:
    """List the subscriptions that stand at the beginning of a month and reach it."""
    from ingest.contract.month import month_of, month_text
    from ingest.runtime.aliases import Aliases
    from ingest.settings import IngestSettings
    from warehouse.payout.close.months import parse_month
    from warehouse.subscriptions.standing import standing

    number = parse_month(month) if month else month_of(clock()())
    table = Aliases(IngestSettings().aliases_file, clock()).look().in_month(number)
    count = 0
    for one, flattred in standing(warehouse(), number, member_id=member, table=table):
        until = f"until {month_text(one.last_month)}" if one.last_month else "until it is ended"
        state = "flattred" if flattred else "not posted yet"
        typer.echo(f"{one.member_id}  {one.creator_id}  {one.thing}  {until}  {state}")
        count += 1
    typer.echo(f"{count} subscriptions stand at the beginning of {month_text(number)}")
