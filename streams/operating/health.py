"""A worker's endpoints /live, /ready and /metrics."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.operating.metrics import Metrics


class Health:
    """A small HTTP server: /live checks nothing; /ready lists what is missing, one line each."""

    def __init__(self, host: str, port: int, metrics: Metrics, missing: Callable[[], list[str]]) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._missing = missing
        app = web.Application()
        app.add_routes([
            web.get("/live", self._live), web.get("/ready", self._ready), web.get("/metrics", self._show_metrics),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Start listening. Raises ``OSError`` when the port is in use."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def _ready(self, _: web.Request) -> web.Response:
        missing = self._missing()
        return web.Response(text="\n".join(missing or ["ready"]) + "\n", status=503 if missing else 200)

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
