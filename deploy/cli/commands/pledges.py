"""`flattr pledges`: what members pay. Imports and withdrawals show what they change and ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import collecting
from deploy.cli.finance import clock, settings, warehouse
from deploy.cli.previews import asking, show_pledges

Month = Annotated[str, typer.Argument(help="YYYY-MM", metavar="YYYY-MM")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask: for scripts")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    pledges = typer.Typer(help="What members pay.", no_args_is_help=True)
    pledges.command("import")(import_pledges)
    pledges.command("list")(list_pledges)
    pledges.command("withdraw")(withdraw)
    collecting.register(pledges)
    app.add_typer(pledges, name="pledges")


def import_pledges(
    file: Annotated[Path, typer.Argument(help="CSV: member_id,month,amount,currency,paid")], *, yes: Yes = False
) -> None:
    """Import pledges from a CSV file: all rows, or none, with every invalid row reported.

    Shows what is added and changed, the sums before and after, and who was never seen before; then asks.
    """
    from ingest.contract.month import month_of
    from warehouse.payout.inputs.pledges import import_pledges as read

    rules = settings()
    confirm = asking(show_pledges(rules.close_noclick), f"Import {file.name}?", yes=yes)
    done = read(warehouse(), file, rules.close_currency, month_of(clock()()), confirm)
    if done.charged_back:
        typer.echo(f"{done.charged_back} pledges of closed months were charged back: the next close enters them")
    elif done.version == 0:
        typer.echo(f"All of {file.name} holds already: nothing to do")
    if done.version:
        typer.echo(f"{done.rows} pledges imported as version {done.version}")


def list_pledges(month: Month, member: Annotated[str, typer.Option(help="this member's alone")] = "") -> None:
    """List the pledges that hold for a month, and the import that each comes from."""
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.inputs.pledge_versions import standing_pledges
    from warehouse.payout.money import as_text

    count = paid_micro = 0
    for one in standing_pledges(warehouse(), [parse_month(month)], member):
        owed = one.owed
        amount = f"{as_text(owed.amount_micro, owed.currency)} {owed.currency}"
        typer.echo(f"{one.member_id}  {amount}  {'paid' if owed.paid else 'not paid'}  import {one.version}")
        count += 1
        paid_micro += owed.paid_micro
    typer.echo(f"{count} pledges for {month}, of which {as_text(paid_micro, settings().close_currency)} is paid")


def withdraw(
    month: Annotated[str, typer.Argument(help="YYYY-MM; with --all-of-import it may be left out")] = "",
    members: Annotated[list[str] | None, typer.Argument(help="whose pledges are taken back")] = None,
    all_of_import: Annotated[
        int | None, typer.Option(min=1, help="take back what holds by this import, as `pledges list` names it")
    ] = None,
    *,
    yes: Yes = False,
) -> None:
    """Take pledges of open months back, as if they had never been imported. All or none.

    What the pledges had replaced does not come back by itself: import it again.
    """
    from deploy.errors import CommandFailed
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.inputs.withdrawals import withdraw_import, withdraw_members

    if bool(members) == (all_of_import is not None) or not (month or all_of_import):
        raise CommandFailed("Say what to take back: a month and its members, or --all-of-import with a number.")
    number = parse_month(month) if month else None
    confirm = asking(show_pledges(settings().close_noclick), "Take these pledges back?", yes=yes)
    if all_of_import is not None:
        done = withdraw_import(warehouse(), all_of_import, number, confirm)
    else:
        done = withdraw_members(warehouse(), parse_month(month), members or [], confirm)
    typer.echo(f"{done.rows} pledges withdrawn by version {done.version}")
