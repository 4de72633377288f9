"""Run ingest under uvicorn: in this process, or in several workers that share the port."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import uvicorn

from ingest.admission.rate_limit import share_limits
from ingest.app import create_app
from ingest.http.connection import server_options as connection_options
from ingest.http.server import BeaconProtocol
from ingest.log.partitions_note import noted_partitions
from ingest.log.producer import Producer
from ingest.log.sender import BrokerUnavailable
from ingest.log.spool import slots_of
from ingest.metrics import METRICS_FOLDER
from ingest.runtime.garbage import collect_rarely
from ingest.settings import IngestSettings

#: A worker that does not answer its parent for so long is killed, and a restart waits as long for the new one before it
#: gives up. uvicorn's 5 s kill workers of a busy host that are only slow, and their requests with them.
WORKER_ANSWERS_S: Final = 30


def serve(settings: IngestSettings, *, worker: str) -> None:
    """Serve until SIGTERM; then accept nothing new, answer what is in flight, and return.

    With several workers, each builds its app with ``worker`` ("module:function"), and SIGHUP restarts them one by one,
    each drained, while the port stays open. Raises ``TopicMissing``, ``FileError`` or ``SpoolBroken`` if the
    service cannot start.
    """
    options = {**server_options(settings), "host": settings.host, "port": settings.port}
    app = create_app(settings)
    asyncio.run(_check_topics(settings))
    if settings.spool is not None:
        slots_of(settings.spool, fsync=settings.spool_fsync)
    if settings.workers == 1:
        collect_rarely()
        uvicorn.run(app, **options)
        return
    with tempfile.TemporaryDirectory(prefix="flattr-ingest-") as folder:
        os.environ[METRICS_FOLDER] = folder
        share_limits(Path(folder))
        uvicorn.run(
            worker, factory=True, workers=settings.workers, timeout_worker_healthcheck=WORKER_ANSWERS_S, **options
        )


def server_options(settings: IngestSettings) -> dict[str, Any]:
    """Options for ``uvicorn.Config``, except the address."""
    return connection_options(BeaconProtocol, drain_s=round(settings.drain_timeout_s))


async def _check_topics(settings: IngestSettings) -> None:
    """Raise ``TopicMissing`` before listening. A broker that is unavailable may come up later."""
    producer = Producer(settings, noted_partitions(settings.spool, settings.topic_clicks))
    try:
        await producer.start()
    except BrokerUnavailable:
        return
    await producer.stop()
