"""`flattr settings`: every setting there is."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("settings")(show)


def show() -> None:
    """Print the table of all settings, as docs/settings.md has it."""
    from deploy.provision.settings_table import markdown

    typer.echo(markdown(), nl=False)
