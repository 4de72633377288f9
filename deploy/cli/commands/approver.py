"""`flattr approver`: whose signatures count for payments. For operators; the private keys stay with their people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.finance import warehouse


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Who may approve payments.", no_args_is_help=True)
    group.command("keygen")(keygen)
    group.command("enrol")(enrol)
    group.command("withdraw")(withdraw)
    group.command("list")(show)
    app.add_typer(group, name="approver")


def keygen(file: Annotated[Path, typer.Argument(help="where your private key goes; it must not be there yet")]) -> None:
    """Make a key of your own, and print its public half for an operator to enrol."""
    from deploy.errors import CommandFailed
    from warehouse.payout.books.approval import make_key

    try:
        typer.echo(make_key(file))
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written: {error.strerror}. A key is never overwritten.") from None


def enrol(
    name: str, public_key: Annotated[str, typer.Argument(help="64 hexadecimal digits, from that person")]
) -> None:
    """Let a person approve payments from now on. Ask the person, not a message, for the key."""
    from warehouse.payout.books.approval import enrol as add

    add(warehouse(), name, public_key)
    typer.echo(f"{name} may approve payments")


def withdraw(name: str) -> None:
    """Let a person approve no longer. What they approved and nobody has exported lapses."""
    from warehouse.payout.books.approval import withdraw as take_back

    take_back(warehouse(), name)
    typer.echo(f"{name} may approve payments no longer")


def show() -> None:
    """List who may approve payments, with their public keys."""
    from warehouse.payout.books.approval import enrolled

    for name, public_key in enrolled(warehouse()).items():
        typer.echo(f"{name} {public_key}")
