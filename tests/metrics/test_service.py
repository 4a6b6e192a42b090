"""The exporter's port: who asks gets the page, and who does not read it takes no memory."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from xds.config import Failure, Flags
from xds.metrics.service import Exporter, run
from xds.web.server import WebServer

LINES = "".join(f'envoy_ingress_requests{{labels="200 GET default web web - a.test /{number}"}} 1\n' for number in range(20_000))


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[WebServer]:
    """The exporter beside what gives Envoy's page of statistics on a socket."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=LINES if request.path.startswith("/stats") else "")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    envoy = web.AppRunner(app)
    await envoy.setup()
    await web.UnixSite(envoy, str(tmp_path / "stats.sock")).start()
    found = WebServer(Exporter(Flags(stats_address=f"unix:{tmp_path}/stats.sock")).application(), host="127.0.0.1", port=0)
    await found.start()
    yield found
    await found.stop()
    await envoy.cleanup()


async def test_the_page_is_the_same_compressed_or_not_and_head_has_its_size(server: WebServer) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", auto_decompress=False) as client:
        async with client.get("/metrics", headers={"Accept-Encoding": "identity"}) as plain:
            body = await plain.read()
        async with client.get("/metrics", headers={"Accept-Encoding": "gzip"}) as zipped:
            assert gzip.decompress(await zipped.read()).count(b"requests{") == body.count(b"requests{") == 20_000
            assert zipped.headers["Content-Encoding"] == "gzip"
        async with client.head("/metrics", headers={"Accept-Encoding": "identity"}) as head:
            assert (head.status, await head.read()) == (200, b"")


async def test_clients_that_do_not_read_share_one_page(server: WebServer) -> None:
    async def begun() -> socket.socket:
        """A connection on which the head of the page has come, and nothing else is read."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await loop.sock_recv(client, 12)).startswith(b"HTTP/1.1 200")
        return client

    tracemalloc.start()
    clients = [await begun()]
    try:
        before = tracemalloc.get_traced_memory()[0]
        clients += [await begun() for _ in range(20)]
        assert tracemalloc.get_traced_memory()[0] - before < 10 * 2**20
    finally:
        tracemalloc.stop()
        for client in clients:
            client.close()


async def test_an_envoy_that_is_not_there_is_a_sentence_with_the_socket(tmp_path: Path) -> None:
    app = Exporter(Flags(stats_address=f"unix:{tmp_path}/none.sock")).application()
    alone = WebServer(app, host="127.0.0.1", port=0)
    await alone.start()
    try:
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{alone.port}/metrics") as answer:
            assert answer.status == 503
            assert (await answer.text()).startswith(f"Envoy does not answer on {tmp_path}/none.sock: ")
    finally:
        await alone.stop()


async def test_a_port_in_use_is_a_sentence_with_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Failure) as failed:
            await run(Flags(metrics_address=address, stats_address="unix:/none.sock"))
    assert str(failed.value) == (
        f"the metrics server cannot listen on {address}: Address already in use; name another port with --metrics-address."
    )
