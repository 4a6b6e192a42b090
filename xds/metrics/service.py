"""The process: it asks Envoy on a Unix socket whenever it is asked itself."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

import aiohttp
from aiohttp import web
from yarl import URL

from xds.addresses import parse_address
from xds.config import Failure, Flags
from xds.metrics import process, statistics
from xds.metrics.page import Reloads, Shown, page
from xds.request_metrics import PROCESS_PATH, STATS_PATH
from xds.web.server import WebServer

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATIENCE = aiohttp.ClientTimeout(total=10)
"""Envoy writes its page in its main thread, beside the configuration that it takes."""
_REST = 2
"""A page is reused for so many times the time that it took: scrapes take a third of a core at most, of Envoy's main thread too."""

_PIECE = 64 * 1024
"""Bytes of a page that are sent at a time."""

_log = logging.getLogger("xds.metrics")


class _Kept(NamedTuple):
    """A page as it is and compressed, which is done once for all who ask."""

    plain: bytes
    zipped: bytes


class Exporter:
    """Answers /metrics. Only one page at a time is made, however many ask."""

    def __init__(self, settings: Flags) -> None:
        self._socket = parse_address(settings.stats_address).path
        self._shown = Shown(
            settings.controller_namespace,
            settings.controller_pod,
            settings.controller_class,
            frozenset(settings.exclude_socket_metrics),
            settings.metrics_per_undefined_host,
            settings.report_status_classes,
        )
        self._reloads = Reloads()
        self._making = asyncio.Lock()
        self._until = 0.0
        self._kept = _Kept(b"", b"")

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        async with self._making:
            begun = time.monotonic()
            if begun >= self._until:
                try:
                    self._kept = await self._made()
                except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
                    return web.Response(status=503, text=f"Envoy does not answer on {self._socket}: {error}\n")
                now = time.monotonic()
                self._until = now + _REST * (now - begun)
            kept = self._kept
        return await _sent(request, kept)

    async def _made(self) -> _Kept:
        connector = aiohttp.UnixConnector(self._socket)
        async with aiohttp.ClientSession(connector=connector, timeout=_PATIENCE, requote_redirect_url=False) as envoy:
            found = await _asked(envoy, STATS_PATH)
            line = await _asked(envoy, PROCESS_PATH)
        return await asyncio.to_thread(self._rendered, found, line)

    def _rendered(self, found: str, line: str) -> _Kept:
        body = page(statistics.read(found), _process(line), self._shown, self._reloads).encode()
        return _Kept(body, gzip.compress(body, compresslevel=1))


async def _sent(request: web.Request, kept: _Kept) -> web.StreamResponse:
    """Send a page in pieces, so that no client that reads slowly has a copy of its own in memory."""
    zipped = "gzip" in request.headers.get("Accept-Encoding", "")
    body = kept.zipped if zipped else kept.plain
    response = web.StreamResponse(headers={"Content-Type": _TYPE, **({"Content-Encoding": "gzip"} if zipped else {})})
    response.content_length = len(body)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        if request.method != "HEAD":
            for at in range(0, len(body), _PIECE):
                await response.write(body[at : at + _PIECE])
    return response


async def _asked(envoy: aiohttp.ClientSession, path: str) -> str:
    async with envoy.get(URL(f"http://envoy{path}", encoded=True)) as response:
        response.raise_for_status()
        return await response.text("utf-8", "replace")


def _process(line: str) -> process.Process | None:
    """Envoy's process; None where the kernel has no such line."""
    with contextlib.suppress(OSError, ValueError):
        booted = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
        ticks, size = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return process.read(line, ticks=ticks, page=size, booted=float(booted[1]) if booted else 0.0)
    return None


async def run(settings: Flags) -> None:
    """Serve until cancelled. Raises Failure where it cannot listen."""
    address = parse_address(settings.metrics_address)
    app = Exporter(settings).application()
    server = WebServer(app, host=address.host, port=address.port, name="the metrics server", flag="--metrics-address")
    try:
        await server.start()
    except OSError as error:
        raise Failure(f"{error}.") from None
    _log.info("metrics are at http://%s/metrics", address)
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()
