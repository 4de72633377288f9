"""`flattr creators`: the register of creators and their accounts, and holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.finance import warehouse
from deploy.cli.previews import asking, show_register


def register(app: typer.Typer) -> None:
    """Add the commands."""
    creators = typer.Typer(help="The register of creators, and holds.", no_args_is_help=True)
    creators.command("import")(import_creators)
    creators.command("hold")(hold)
    creators.command("release")(release)
    app.add_typer(creators, name="creators")


def import_creators(
    file: Annotated[Path, typer.Argument(help="CSV: creator_id,name,iban,bic")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask: for scripts")] = False,
) -> None:
    """Import creators and their bank accounts from a CSV file: all rows or none.

    Shows who is new, whose account changes, and how the bank writes the names; then asks.
    """
    from warehouse.payout.inputs.creators import import_creators as read

    names = read(warehouse(), file, asking(show_register, f"Import {file.name}?", yes=yes))
    typer.echo(f"{len(names)} creators imported")


def hold(creator_id: str, reason: Annotated[str, typer.Option(help="reason shown to the creator")]) -> None:
    """Hold a creator's payments from the next close on."""
    from warehouse.payout.inputs.creators import hold as keep_back

    keep_back(warehouse(), creator_id, reason)
    typer.echo(f"{creator_id} is held: {reason}")


def release(creator_id: str) -> None:
    """Lift a hold; the held money is paid with the next close."""
    from warehouse.payout.inputs.creators import release as let_go

    let_go(warehouse(), creator_id)
    typer.echo(f"{creator_id} is released")
