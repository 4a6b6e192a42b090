"""The HTTP server of the dashboard: its address, its routes, and the streams of events.

It answers GET and HEAD. What a client of this port can do to the control plane is bounded: connections (`xds.web.connections`), pages
(`turns`), streams (`pulse`). What does not belong here: what a page shows (`pages`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from xds.addresses import SocketAddress
from xds.dashboard.guard import add_headers, only_as
from xds.dashboard.pages import Missing, Pages, View, Words, together
from xds.dashboard.pulse import Pulse
from xds.dashboard.subject import Displayed
from xds.dashboard.turns import Busy, PageTurns
from xds.machine.network import reason
from xds.problem import Ref
from xds.web.connections import Connections, Limits

if TYPE_CHECKING:
    from xds.dashboard.markup import Markings

_log = logging.getLogger("xds.dashboard")
LIMITS = Limits(most=64, bytes=16 * 2**10, spare=0)
_STREAM = LIMITS.next - 10
"""Seconds for which a stream of events lasts; the browser opens the next one."""
SILENCE = 5.0
"""Seconds after which a stream without an event shows that it is there, and notices a client that has gone without a word."""
_LOOK = 0.5
"""Seconds between two looks whether the client has closed its connection, for others wait for its place."""
_FILES = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}


class Dashboard:
    """Serves the pages of a Subject at an address, under the names of `names` besides loopback.

    `address` has the port that the system has chosen for 0.
    """

    def __init__(self, subject: Displayed, address: SocketAddress, names: tuple[str, ...] = (), *, limits: Limits = LIMITS) -> None:
        self.address = address
        self._pulse = Pulse(subject)
        self._pages = Pages(subject, self._pulse)
        self._turns = PageTurns()
        self._markings: Markings | None = None
        app = web.Application(client_max_size=1, middlewares=[only_as(names), self._faults])
        app.on_response_prepare.append(add_headers)
        for path, page in self._routes().items():
            app.router.add_get(path, page)
        app.router.add_get("/events", self._events, allow_head=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._connections = Connections(self._runner, limits, "the dashboard")

    async def start(self) -> None:
        """Listen. Raises OSError with a sentence where that is not possible."""
        await self._runner.setup()
        host, port = self.address.host, self.address.port
        try:
            server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(f"the dashboard cannot listen on {self.address}: {reason(error)}") from None
        sockets = [each.dup() for each in server.sockets]
        server.close()
        self.address = SocketAddress(host, _port(sockets))
        self._connections.start(sockets)
        _log.info("the dashboard is at http://%s/", self.address)

    async def stop(self) -> None:
        """End all streams, and close the port."""
        await self._pulse.stop()
        await self._connections.stop()
        await self._runner.cleanup()

    def _routes(self) -> dict[str, Handler]:
        pages = self._pages
        named = {"/": pages.hosts, "/problems": pages.problems, "/fleet": pages.fleet, "/changes": pages.changes, "/explain": pages.explain}
        found: dict[str, Handler] = {path: partial(self._page, path, page) for path, page in named.items()}
        found["/ingress/{namespace}/{name}"] = self._ingress
        found["/favicon.ico"] = _nothing
        return found | {f"/static/{name}": _file(name, kind) for name, kind in _FILES.items()}

    # Answers

    async def _page(self, active: str, page: Callable[[Words], Awaitable[View]], request: web.Request) -> web.Response:
        return await self._show(active, lambda: page(Words.of(request.query)))

    async def _ingress(self, request: web.Request) -> web.Response:
        about = Ref("Ingress", request.match_info["namespace"], request.match_info["name"])
        return await self._show("/", lambda: self._pages.ingress(about))

    async def _show(self, active: str, page: Callable[[], Awaitable[View]], status: int = 200) -> web.Response:
        try:
            async with self._turns.turn():
                if self._markings is None:
                    self._markings = await asyncio.to_thread(_markings)
                view = await together(page(), self._pages.surroundings(active))
                body = await asyncio.to_thread(self._markings.render, view.template, view.values)
        except Busy:
            return web.Response(status=503, text="Too many pages are asked for.\n", headers={"Retry-After": "1"})
        return web.Response(status=status, text=body, content_type="text/html")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """The stamp of the present state, then each further one."""
        if self._pulse.is_full:
            return web.Response(status=503, text="Too many pages follow what changes.\n", headers={"Retry-After": "15"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        with self._pulse.waiting(), contextlib.suppress(ConnectionError):
            await response.prepare(request)
            shown, stamp = time.monotonic(), self._pulse.stamp()
            until = shown + _STREAM
            await response.write(f"retry: 2000\nevent: state\ndata: {stamp}\n\n".encode())
            while time.monotonic() < until and not self._pulse.stopped and request.transport is not None:
                found = await self._pulse.after(stamp, _LOOK)
                if found or time.monotonic() >= shown + SILENCE:
                    await response.write(f"event: state\ndata: {found}\n\n".encode() if found else b":\n\n")
                    shown = time.monotonic()
                stamp = found or stamp
        return response

    # Around every answer

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What goes wrong as a page or a sentence; nothing of the inside is shown."""
        try:
            return await handler(request)
        except (Missing, web.HTTPNotFound) as error:
            sentence = str(error) if isinstance(error, Missing) else "There is no such page."
            return await self._show("", partial(_missing, sentence), 404)
        except (web.HTTPException, asyncio.CancelledError, ConnectionError):
            raise
        except Exception:  # noqa: BLE001 - a page that cannot be made must not look like one that is empty
            _log.exception("internal error in a page of the dashboard; please report it")
            return web.Response(status=500, text="This page cannot be made; the log of the management server has the reason.\n")


async def _missing(sentence: str) -> View:
    return View("missing", {"sentence": sentence})


def _markings() -> Markings:
    from xds.dashboard.markup import Markings  # a template engine takes 5 MB, and most processes are never looked at

    return Markings()


async def _nothing(_request: web.Request) -> web.Response:
    return web.Response(status=204)


def _file(name: str, kind: str) -> Handler:
    """A file of ours, which a browser may keep for as long as it is asked whether it is the same."""
    body = (resources.files("xds.dashboard") / "static" / name).read_bytes()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return answer


def _port(sockets: list[socket.socket]) -> int:
    port: int = sockets[0].getsockname()[1]
    return port


async def serve(subject: Displayed, address: SocketAddress, names: tuple[str, ...]) -> Dashboard | None:
    """The dashboard, listening. If it cannot listen, that is logged, and everything else goes on without it: None."""
    dashboard = Dashboard(subject, address, names)
    try:
        await dashboard.start()
    except OSError as error:
        _log.warning("%s; everything else goes on without it", error)
        return None
    return dashboard
