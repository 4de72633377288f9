"""`flattr api`: the read API."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("api")(serve)


def serve() -> None:
    """Serve counts and payouts over HTTP until SIGTERM (settings: FLATTR_API_*)."""
    import uvicorn

    from deploy.api_server import bounded
    from deploy.cli.logs import set_up
    from ingest.runtime.garbage import collect_rarely
    from warehouse.api.app import create_app
    from warehouse.api.settings import ApiServerSettings, ApiSettings

    set_up()
    settings = ApiSettings()
    app = create_app(settings)
    collect_rarely()
    uvicorn.run(app, host=settings.api_host, port=settings.api_port, **bounded(app, ApiServerSettings()))
