"""Run the service under uvicorn: in this process, or in several workers that share the port."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import uvicorn

from ingest.admission.rate_limit import share_limits
from ingest.app import create_app
from ingest.http.connection import server_options as connection_options
from ingest.http.server import BeaconProtocol
from ingest.log.producer import BrokerUnavailable, Producer
from ingest.log.spool import slots_of
from ingest.metrics import METRICS_FOLDER
from ingest.settings import IngestSettings


def serve(settings: IngestSettings, *, worker: str) -> None:
    """Serve until SIGTERM: then nothing new is accepted, what is under way is answered, and the call returns.

    With several workers, each runs what ``worker`` names ("module:function", which makes the app), and SIGHUP
    restarts them one after the other, each drained, with the port open all the while. Raises
    ``TopicMissing``, ``FileError`` or ``SpoolBroken`` when it is clear that it cannot start.
    """
    options = {**server_options(settings), "host": settings.host, "port": settings.port}
    app = create_app(settings)
    asyncio.run(_check_topics(settings))
    if settings.spool is not None:
        slots_of(settings.spool, fsync=settings.spool_fsync)
    if settings.workers == 1:
        # What is there now stays: the collector need not look at it again, in the middle of requests.
        gc.freeze()
        uvicorn.run(app, **options)
        return
    with tempfile.TemporaryDirectory(prefix="flattr-ingest-") as folder:
        os.environ[METRICS_FOLDER] = folder
        share_limits(Path(folder))
        uvicorn.run(worker, factory=True, workers=settings.workers, **options)


def server_options(settings: IngestSettings) -> dict[str, Any]:
    """How uvicorn is to behave, besides its address."""
    return connection_options(BeaconProtocol, drain_s=round(settings.drain_timeout_s))


async def _check_topics(settings: IngestSettings) -> None:
    """Say that a topic is missing before anything listens. A broker that is away may come later."""
    producer = Producer(settings)
    try:
        await producer.start()
    except BrokerUnavailable:
        return
    await producer.stop()
