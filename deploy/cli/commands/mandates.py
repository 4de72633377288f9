"""`flattr mandates`: which members allow direct debits, from which account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.collecting import today
from deploy.cli.finance import warehouse
from deploy.cli.previews import asking, named

if TYPE_CHECKING:
    from warehouse.payout.collecting.mandates import MandatePreview


def register(app: typer.Typer) -> None:
    """Add the commands."""
    mandates = typer.Typer(help="Members' mandates for direct debits.", no_args_is_help=True)
    mandates.command("import")(import_mandates)
    mandates.command("withdraw")(withdraw)
    app.add_typer(mandates, name="mandates")


def import_mandates(
    file: Annotated[Path, typer.Argument(help="CSV: member_id,mandate_id,signed_on,name,iban,bic")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask: for scripts")] = False,
) -> None:
    """Import mandates from a CSV file: all rows or none. Shows what is new and changed, then asks."""
    from warehouse.payout.collecting.mandates import import_mandates as read

    count = read(warehouse(), file, today(), asking(_show, f"Import {file.name}?", yes=yes))
    typer.echo(f"{count} mandates are new or changed")


def withdraw(members: Annotated[list[str], typer.Argument(help="whose mandates end")]) -> None:
    """End members' mandates: nothing more is collected by them. A new one needs an id of its own."""
    from warehouse.payout.collecting.mandates import withdraw_mandates

    for mandate in withdraw_mandates(warehouse(), members):
        typer.echo(f"{mandate.member_id}: {mandate} is withdrawn")


def _show(preview: MandatePreview) -> None:
    typer.echo(f"mandates: {len(preview.added)} added, {len(preview.changed)} changed, {preview.unchanged} unchanged")
    for member_id, (before, after) in list(preview.changed.items())[:10]:
        typer.echo(f"  {member_id}: {before} -> {after}")
    for member_id, (given, written) in preview.written.items():
        typer.echo(f"  {member_id}: {given!r} goes to the bank as {written!r}")
    if preview.never_seen:
        typer.echo(
            f"  {len(preview.never_seen)} members have never flattred or pledged: {named(preview.never_seen)}. Are the "
            "ids spelt right?"
        )
