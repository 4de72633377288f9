"""Run the service under uvicorn."""

from __future__ import annotations

from typing import Any

import uvicorn

from ingest.app import create_app
from ingest.protocol import BeaconProtocol
from ingest.settings import IngestSettings


def serve(settings: IngestSettings) -> None:
    """Serve until SIGTERM: then nothing new is accepted, what is under way is answered, and the call returns.

    Raises ``SystemExit`` when the service could not start.
    """
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, **server_options(settings))


def server_options(settings: IngestSettings) -> dict[str, Any]:
    """How uvicorn is to behave, besides its address."""
    return {
        "loop": "uvloop",
        "http": BeaconProtocol,
        "ws": "none",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": round(settings.drain_timeout_s),
    }
