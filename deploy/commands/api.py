"""`flattr api`: the read API."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("api")(serve)


def serve() -> None:
    """Serve counts and payouts over HTTP until SIGTERM (settings: FLATTR_API_*)."""
    import uvicorn

    from deploy.logs import set_up
    from warehouse.api import create_app
    from warehouse.api_settings import ApiSettings

    set_up()
    settings = ApiSettings()
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
