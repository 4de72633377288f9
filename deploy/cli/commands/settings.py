"""`flattr settings`: list every setting, or those in force."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("settings")(show)


def show(
    *,
    in_force: Annotated[
        bool, typer.Option("--in-force", help="the values here and now, and where they are from")
    ] = False,
) -> None:
    """Print all settings as in docs/settings.md, or with --in-force the values that a command started here has."""
    import os

    from deploy.provision.settings_table import markdown, values

    if not in_force:
        typer.echo(markdown(), nl=False)
        return
    for name, value, is_given in values(os.environ):
        typer.echo(f"{name}={value}{'' if is_given else '   # default'}")
