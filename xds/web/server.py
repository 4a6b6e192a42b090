"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Waiting = Callable[[], Sequence[str]]
"""What readiness still waits for, as sentences; none when ready."""


def application(registry: CollectorRegistry, waiting: Waiting, *, healthz_path: str = "/healthz") -> web.Application:
    """The aiohttp application; metrics are those of `registry` alone."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        reasons = waiting()
        if reasons:
            return web.Response(status=503, text="\n".join(("not ready", *reasons)))
        return web.Response(text="ok")

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get(healthz_path, healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


class WebServer:
    """Serves an application on `host` ("" for all addresses) and `port` (0 lets the system choose)."""

    def __init__(self, app: web.Application, *, host: str = "", port: int = 10254) -> None:
        self._host = host
        self._port = port
        self._runner = web.AppRunner(app, access_log=None)

    @property
    def port(self) -> int:
        """Where it listens; with port 0, what the system has chosen once it has started."""
        return self._port

    async def start(self) -> None:
        """Listens. Raises OSError with a sentence where that is not possible."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host or None, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(f"the health server cannot listen on {self._host or '*'}:{self._port}: {error.strerror}") from None
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes its connections; does nothing when it has not started."""
        await self._runner.cleanup()
