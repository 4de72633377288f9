"""A stream worker as a process of its own, to be asked, stopped and killed."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.stack.embedded import HOST, ROOT, ServiceProcess, free_port
from warehouse.storage.client import Warehouse


class StreamWorker(ServiceProcess):
    """`flattr streams` on the given broker, database and topic, or a program that runs it. Ready when it listens."""

    def __init__(  # noqa: PLR0913 - a test says what it means
        self,
        folder: Path,
        *,
        broker: str,
        warehouse: Warehouse,
        topic: str,
        name: str = "streams",
        program: tuple[str, ...] = (),
        **settings: object,
    ) -> None:
        port = free_port()
        environment = {
            "PYTHONPATH": str(ROOT),
            "FLATTR_BROKER": broker,
            "FLATTR_WAREHOUSE": warehouse.url,
            "FLATTR_TOPIC_CLICKS": topic,
            "FLATTR_TOPIC_REJECTED": f"{topic}-rejected",
            "FLATTR_STREAMS_PORT": str(port),
            "FLATTR_STREAMS_GROUP": f"group-{topic}",
            # The embedded broker has a group wait for half of it, and twice as long for one that left.
            "FLATTR_STREAMS_SESSION_TIMEOUT_S": "3",
            "FLATTR_STREAMS_FLUSH_MS": "50",
            **{f"FLATTR_{key.upper()}": str(value) for key, value in settings.items()},
        }
        flattr = ["-c", "from deploy.cli.main import main; main()", "streams"]
        command = ["-m", *program] if program else flattr
        super().__init__(name, [sys.executable, *command], folder=folder, port=port, environment=environment)

    @property
    def url(self) -> str:
        """Where its health port is."""
        return f"http://{HOST}:{self.port}"
