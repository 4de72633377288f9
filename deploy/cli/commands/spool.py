"""`flattr spool recover`: what is left in a damaged segment of ingest's spool, and sends it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import web_address

if TYPE_CHECKING:
    from deploy.cli.resend import Door
    from ingest.contract.click import Click


def register(app: typer.Typer) -> None:
    """Add the command."""
    spool = typer.Typer(help="Damaged segments of ingest's spool.", no_args_is_help=True)
    spool.command("recover")(recover)
    spool.callback()(lambda: None)
    app.add_typer(spool, name="spool")


def recover(
    segment: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="NUMBER.damaged")],
    url: Annotated[str, typer.Option(callback=web_address, help="ingest's address")] = "http://127.0.0.1:8001",
    keys: Annotated[Path, typer.Option(envvar="FLATTR_TOKEN_KEYS")] = Path(".flattr/token-keys.json"),
    audience: Annotated[str, typer.Option(envvar="FLATTR_INGEST_TOKEN_AUDIENCE")] = "flattr",
    clock: Annotated[str, typer.Option(envvar="FLATTR_CLOCK")] = "system",
    *,
    send: Annotated[bool, typer.Option("--send", help="send the clicks that are proven again")] = False,
) -> None:
    """Show what can be read in a segment's damaged bytes; with --send, send again what is proven. Safe to repeat."""
    from deploy.cli.resend import Door
    from deploy.errors import CommandFailed
    from ingest.contract import click as contract
    from ingest.log.salvage import salvage
    from ingest.runtime.clock import clock_from
    from ingest.runtime.watched_file import FileError

    try:
        content = segment.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{segment} cannot be read: {error.strerror}") from error
    found = salvage(content)
    for line in found.doubtful:
        text = line.decode("utf-8", "replace")
        typer.echo("doubtful: " + "".join(char if char.isprintable() else "?" for char in text))
    if not send:
        for click in found.clicks:
            typer.echo(f"proven: {contract.encode(click).decode()}")
        typer.echo(f"{len(found.clicks)} clicks are proven, {len(found.doubtful)} lines are not")
        return
    door = Door(url, keys, audience=audience, clock=clock_from(clock))
    try:
        taken = sum(_send(click, door) for click in found.clicks)
    except (FileError, OSError) as error:
        raise CommandFailed(f"cannot send to {url}: {error}") from error
    typer.echo(f"{taken} of {len(found.clicks)} accepted, {len(found.doubtful)} lines are not proven")
    if taken < len(found.clicks):
        raise typer.Exit(1)


def _send(click: Click, door: Door) -> bool:
    """As if it had been refused by the stream: with its own id and time."""
    import msgspec

    from deploy.cli.resend import Repair, repaired_item
    from warehouse.counts.rejections import Rejected, RejectedId

    stored = Rejected(RejectedId("clicks", 0, 0), click.received_at, "", "", "", "", b"")
    outcome = door.send(*repaired_item(stored, None, msgspec.to_builtins(click), Repair()))
    if outcome.status != 202:
        typer.echo(f"{click.click_id}: refused: {outcome.status} {outcome.reason}")
    return outcome.status == 202
