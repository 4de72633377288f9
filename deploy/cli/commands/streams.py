"""`flattr streams`: run a stream worker."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("streams")(serve)


def serve() -> None:
    """Count clicks from Kafka into the warehouse until SIGTERM. Settings: FLATTR_* in the environment."""
    from deploy.cli.logs import set_up
    from streams.app import worker_from
    from streams.settings import StreamsSettings

    set_up()
    worker_from(StreamsSettings()).run()
