"""What operations ask of a process: /healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from ingest.metrics import Metrics

Check = Callable[[], Awaitable[str | None]]
"""What keeps the process from taking traffic; None if nothing does."""


class Operations:
    """The three handlers. `draining` is set first thing in a drain."""

    def __init__(self, metrics: Metrics, check: Check) -> None:
        self._metrics = metrics
        self._check = check
        self.draining = False

    async def healthz(self, _: web.Request) -> web.Response:
        """The process lives."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """Whether to send it traffic."""
        problem = "draining" if self.draining else await self._check()
        if problem is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "detail": problem}, status=503)

    async def metrics(self, _: web.Request) -> web.Response:
        """Prometheus' text format, over all processes of this program."""
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def add_to(self, app: web.Application) -> None:
        """The routes."""
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
