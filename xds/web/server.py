"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from xds.machine.network import reason
from xds.web.connections import Connections, Limits

Waiting = Callable[[], Sequence[str]]
"""Returns what readiness still waits for, as sentences, and none when ready."""

_REST = 10
"""A page of metrics is reused for so many times the time of its computation. So scrapes take a tenth of a core at most."""


def application(registry: CollectorRegistry, waiting: Waiting, *, healthz_path: str = "/healthz") -> web.Application:
    """The aiohttp application. Its metrics are those of `registry` alone."""
    kept: dict[str, tuple[float, bytes]] = {}

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        reasons = waiting()
        if reasons:
            return web.Response(status=503, text="\n".join(("not ready", *reasons)))
        return web.Response(text="ok")

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        begun = time.monotonic()
        until, body = kept.get(content_type, (0.0, b""))
        if begun >= until:
            body = encode(registry)
            now = time.monotonic()
            kept[content_type] = (now + _REST * (now - begun), body)
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get(healthz_path, healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


class WebServer:
    """Serves an application on `host` ("" for all addresses) and `port` (0 lets the system choose), within limits.

    `name` and `flag` are for sentences: what it is, and what its port is set with.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        host: str = "",
        port: int = 10254,
        limits: Limits | None = None,
        name: str = "the health server",
        flag: str = "--healthz-port",
    ) -> None:
        self._name = name
        self._flag = flag
        self._host = host
        self._port = port
        self._runner = web.AppRunner(app, access_log=None)
        self._connections = Connections(self._runner, limits or Limits(), name)

    @property
    def port(self) -> int:
        """Its port. With port 0, the port that the system has chosen at the start."""
        return self._port

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listens. Raises OSError with a sentence where that is not possible."""
        await self._runner.setup()
        try:
            sockets = await self._bound()
        except OSError as error:
            await self._runner.cleanup()
            where = f"{self._host or '*'}:{self._port}"
            what = f"{self._name} cannot listen on {where}: {reason(error)}; name another port with {self._flag}"
            raise OSError(what) from None
        self._port = sockets[0].getsockname()[1]
        self._connections.start(sockets)

    async def stop(self) -> None:
        """Close all connections. Does nothing before the start."""
        await self._connections.stop()
        await self._runner.cleanup()

    async def _bound(self) -> list[socket.socket]:
        """Sockets for every address of the host. The event loop binds them, but accepts no connections."""
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, self._host or None, self._port, start_serving=False)
        try:
            return [each.dup() for each in server.sockets]
        finally:
            server.close()
