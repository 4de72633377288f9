"""`flattr secrets`: what docker-compose.yml needs before its first start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Certificates, passwords and keys for docker compose.", no_args_is_help=True)
    group.callback()(_group)
    group.command("init")(init)
    app.add_typer(group, name="secrets")


def _group() -> None:
    """Keep `init` a word of its own while there is no other."""


def init(
    folder: Annotated[Path, typer.Option(help="where the files go")] = Path("deploy/secrets"),
) -> None:
    """Write what is missing; never write over what is there. The operator's API key is shown once."""
    from deploy.provision.secret_files import init as make

    made = make(folder)
    typer.echo(f"{folder}: {len(made.written)} files written, {len(made.retained)} were there")
    if made.api_key:
        typer.echo(f"API key of the operator, shown once: {made.api_key}")
