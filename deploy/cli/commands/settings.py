"""`flattr settings`: list every setting."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("settings")(show)


def show() -> None:
    """Print all settings as in docs/settings.md."""
    from deploy.provision.settings_table import markdown

    typer.echo(markdown(), nl=False)
