"""`flattr pledges`, `flattr month`, `flattr payouts`: what finance does at the month's end."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ingest.clock import Clock
    from warehouse.client import Warehouse
    from warehouse.payout.log_ends import LogEnds
    from warehouse.payout.proof import Proof
    from warehouse.payout.settings import CloseSettings

Month = Annotated[str, typer.Argument(help="YYYY-MM", metavar="YYYY-MM")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    pledges = typer.Typer(help="What members pay.", no_args_is_help=True)
    pledges.command("import")(import_pledges)
    app.add_typer(pledges, name="pledges")
    month = typer.Typer(help="The month's close.", no_args_is_help=True)
    month.command("close")(close)
    month.command("status")(status)
    app.add_typer(month, name="month")
    payouts = typer.Typer(help="What creators are paid.", no_args_is_help=True)
    payouts.command("show")(show)
    payouts.command("export")(export)
    app.add_typer(payouts, name="payouts")


def import_pledges(file: Annotated[Path, typer.Argument(help="CSV: member_id,month,amount,currency,paid")]) -> None:
    """Import pledges from a CSV file: all rows, or none and every bad row named."""
    from warehouse.pledges import import_pledges as read

    done = read(_warehouse(), file, _settings().close_currency)
    if done.version == 0:
        typer.echo(f"{file.name} is the newest import already: nothing to do")
    else:
        typer.echo(f"{done.rows} pledges imported as version {done.version}")


def close(
    month: Month,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="compute and check, write nothing")] = False,
) -> None:
    """Close a month: check that all is in, divide every cent, publish and seal."""
    from rich.console import Console
    from rich.progress import Progress

    from deploy.logs import set_up
    from warehouse.payout.close import close_month, rehearse_month
    from warehouse.payout.months import parse_month

    set_up("WARNING")
    number = parse_month(month)
    work = rehearse_month if dry_run else close_month
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(f"closing {month}", total=100)
        proof = work(
            _warehouse(),
            number,
            clock=_clock(),
            log_ends=_log_ends(),
            settings=_settings(),
            progress=lambda step, percent: bars.update(bar, completed=percent, description=f"{month}: {step}"),
        )
    typer.echo(f"{month} would be closed like this (dry run, nothing written):" if dry_run else f"{month} is closed.")
    _print_proof(proof)


def status(month: Month) -> None:
    """Say whether a month is closed, and if not, what is missing."""
    from warehouse.errors import WarehouseError
    from warehouse.payout.gate import pass_gate
    from warehouse.payout.months import parse_month
    from warehouse.payout.proof import stored

    number = parse_month(month)
    warehouse = _warehouse()
    proof = stored(warehouse, number)
    if proof is not None:
        typer.echo(f"{month} is closed.")
        _print_proof(proof)
        return
    try:
        tallies = pass_gate(warehouse, number, clock=_clock(), log_ends=_log_ends(), settings=_settings())
    except WarehouseError as missing:
        typer.echo(f"{month} is open. {missing}")
    else:
        typer.echo(f"{month} is open and can be closed: {tallies.counted} flattrs are in.")


def show(month: Month, top: Annotated[int, typer.Option(min=1, help="how many creators")] = 20) -> None:
    """Print the payouts of a closed month, largest first."""
    from rich.console import Console
    from rich.table import Table

    from warehouse.money import as_text
    from warehouse.payout.queries import top_payouts

    warehouse = _warehouse()
    proof = _closed(warehouse, month)
    table = Table("creator", "members", "flattrs", "earned", "paid", "carried", "held", "why", title=f"payouts {month}")
    for line in top_payouts(warehouse, proof.month, top):
        amounts = (line.earned_micro, line.paid_micro, line.carried_out_micro, line.held_out_micro)
        table.add_row(
            line.creator_id,
            str(line.members),
            str(line.flattrs),
            *(as_text(amount, proof.currency) for amount in amounts),
            line.reason,
        )
    Console().print(table)


def export(
    month: Month,
    form: Annotated[str, typer.Option("--format", help="csv")] = "csv",
    output: Annotated[Path | None, typer.Option(help="a file; standard output without it")] = None,
) -> None:
    """Write the payouts of a closed month."""
    from dataclasses import astuple, fields

    from deploy.failures import CommandFailed
    from warehouse.payout.queries import Payout, all_payouts

    if form != "csv":
        raise CommandFailed(f"format {form!r} is not known: csv")
    warehouse = _warehouse()
    proof = _closed(warehouse, month)
    with output.open("w", newline="") if output else sys.stdout as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Payout)])
        writer.writerows(astuple(line) for line in all_payouts(warehouse, proof.month))


def _closed(warehouse: Warehouse, month: str) -> Proof:
    from deploy.failures import CommandFailed
    from warehouse.payout.months import parse_month
    from warehouse.payout.proof import stored

    proof = stored(warehouse, parse_month(month))
    if proof is None:
        raise CommandFailed(f"{month} is not closed: `flattr month status {month}` says what is missing.")
    return proof


def _print_proof(proof: Proof) -> None:
    from warehouse.money import as_text

    lines = {
        "charged": proof.pledged_micro,
        "= paid": proof.paid_micro,
        "+ fee": proof.fee_micro,
        "+ held": proof.held_micro,
        "+ carried": proof.carried_micro,
        "+ charity": proof.charity_micro,
    }
    for name, amount in lines.items():
        typer.echo(f"  {name:<10} {as_text(amount):>20} {proof.currency}")
    typer.echo(
        f"  {proof.accepted} accepted = {proof.counted} counted + {proof.duplicate} duplicate + {proof.undo} undo "
        f"+ {proof.rejected} rejected + {proof.late} late"
    )
    typer.echo(f"  {proof.members_unfunded} of {proof.members} members unfunded; seal {proof.seal}")


def _settings() -> CloseSettings:
    from warehouse.payout.settings import CloseSettings

    return CloseSettings()


def _warehouse() -> Warehouse:
    from warehouse.client import Warehouse
    from warehouse.settings import WarehouseSettings

    return Warehouse(WarehouseSettings().warehouse.get_secret_value(), timeout_s=_settings().close_timeout_s)


def _clock() -> Clock:
    import os

    from ingest.clock import clock_from

    return clock_from(os.environ.get("FLATTR_CLOCK", "system"))


def _log_ends() -> LogEnds:
    from warehouse.payout.log_ends import LogSettings

    return LogSettings().log_ends()
