"""`flattr secrets`: the secrets that docker-compose.yml needs before its first start."""

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
    """Make typer keep `init` as a subcommand although it is the only one."""


def init(
    folder: Annotated[Path, typer.Option(help="folder for the files")] = Path("deploy/secrets"),
    cluster: Annotated[
        str, typer.Option(help="the warehouse's nodes, if it has several: a,b+c,d; + between shards")
    ] = "",
) -> None:
    """Create the missing files; existing ones are never overwritten. The operator's API key is shown once."""
    from deploy.provision.secret_files import init as make

    made = make(folder, cluster=cluster)
    typer.echo(f"{folder}: {len(made.written)} files created, {len(made.retained)} already present")
    if made.api_key:
        typer.echo(f"the operator's API key (not shown again): {made.api_key}")
