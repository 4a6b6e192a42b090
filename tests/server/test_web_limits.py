"""What hostile clients of the health port cost others: nothing. With real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric

from tests.server.client import eventually
from xds.web.connections import Limits
from xds.web.server import WebServer, application

Serve = Callable[[Limits], Awaitable[WebServer]]
Connect = Callable[[int], Awaitable["Peer"]]
GET = b"GET /healthz HTTP/1.1\r\nHost: xds\r\n\r\n"
LONG = 3600.0


@pytest.fixture
async def serve(registry: CollectorRegistry) -> AsyncIterator[Serve]:
    servers: list[WebServer] = []

    async def serve(limits: Limits) -> WebServer:
        servers.append(WebServer(application(registry, list), host="127.0.0.1", port=0, limits=limits))
        await servers[-1].start()
        return servers[-1]

    yield serve
    for server in servers:
        await server.stop()


class Peer:
    """A client that does what it is told, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self) -> bytes:
        self.writer.write(GET)
        async with asyncio.timeout(120):
            head = await self.reader.readuntil(b"\r\n\r\n")
            await self.reader.readexactly(2)
        return head.split(b"\r\n")[0]

    async def is_cut(self) -> bool:
        """Waits for the end."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(120):
                await self.reader.read()
        return True

    @property
    def is_open(self) -> bool:
        return not self.reader.at_eof() and self.reader.exception() is None


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    peers: list[Peer] = []

    async def connect(port: int) -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", port)))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.writer.transport.abort()
        with contextlib.suppress(OSError):
            await peer.writer.wait_closed()


async def test_beyond_the_most_the_one_goes_that_has_asked_for_nothing_for_longest(serve: Serve, connect: Connect) -> None:
    server = await serve(Limits(most=3, first=LONG, next=LONG))
    slow, asks, third = [await connect(server.port) for _ in range(3)]
    slow.writer.write(b"GET /healthz HTTP/1.1\r\n")
    assert await third.get() == b"HTTP/1.1 200 OK"
    assert await asks.get() == b"HTTP/1.1 200 OK"
    probe = await connect(server.port)
    assert await probe.get() == b"HTTP/1.1 200 OK"
    assert await slow.is_cut()
    assert await asks.get() == b"HTTP/1.1 200 OK"
    another = await connect(server.port)
    assert await third.is_cut()
    assert await another.get() == b"HTTP/1.1 200 OK"
    assert asks.is_open
    assert probe.is_open


async def test_with_every_connection_taken_by_slow_clients_healthz_answers(serve: Serve, connect: Connect) -> None:
    server = await serve(Limits(most=20, first=LONG, next=LONG))
    slow = [await connect(server.port) for _ in range(60)]
    for peer in slow:
        peer.writer.write(b"G")
    for _ in range(5):
        assert await (await connect(server.port)).get() == b"HTTP/1.1 200 OK"
    assert server.connections <= 20


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: xds\r\n", b"POST /healthz HTTP/1.1\r\nHost: xds\r\nContent-Le"])
async def test_who_does_not_ask_in_time_is_cut(serve: Serve, connect: Connect, said: bytes) -> None:
    server = await serve(Limits(first=0.05, next=LONG))
    peer = await connect(server.port)
    peer.writer.write(said)
    assert await peer.is_cut()
    await eventually(lambda: not server.connections)


async def test_a_first_request_in_time_is_enough_and_the_next_one_has_its_own_time(serve: Serve, connect: Connect) -> None:
    server = await serve(Limits(first=LONG, next=0.05))
    peer = await connect(server.port)
    assert await peer.get() == b"HTTP/1.1 200 OK"
    peer.writer.write(b"GET /healthz HTTP/1.1\r\n")
    assert await peer.is_cut()


async def test_who_sends_more_than_a_request_needs_is_cut(serve: Serve, connect: Connect) -> None:
    server = await serve(Limits(first=LONG, next=LONG, bytes=1500))
    peer = await connect(server.port)
    peer.writer.write(b"POST /healthz HTTP/1.1\r\nHost: xds\r\nContent-Length: 100000\r\n\r\n" + b"x" * 2000)
    assert await peer.is_cut()
    again = await connect(server.port)
    for _ in range(60):
        assert await again.get() == b"HTTP/1.1 200 OK"


async def test_who_never_reads_is_cut(registry: CollectorRegistry, serve: Serve, connect: Connect) -> None:
    class Big:
        def collect(self) -> list[Metric]:
            return [CounterMetricFamily(f"big_{n}", "x" * 2000, value=1) for n in range(5000)]

    registry.register(Big())
    server = await serve(Limits(first=LONG, next=0.2))
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0)
        await loop.sock_connect(deaf, ("127.0.0.1", server.port))
        await loop.sock_sendall(deaf, b"GET /metrics HTTP/1.1\r\nHost: xds\r\n\r\n")
        await eventually(lambda: server.connections == 1)
        await eventually(lambda: not server.connections)


async def test_metrics_asked_for_without_end_are_worked_out_now_and_then(
    registry: CollectorRegistry, serve: Serve, connect: Connect
) -> None:
    collected = 0

    class Slow:
        def collect(self) -> list[Metric]:
            nonlocal collected
            collected += 1
            until = asyncio.get_running_loop().time() + 1.0
            while asyncio.get_running_loop().time() < until:
                pass
            return []

    server = await serve(Limits())
    registry.register(Slow())
    collected = 0
    for _ in range(20):
        peer = await connect(server.port)
        peer.writer.write(b"GET /metrics HTTP/1.1\r\nHost: xds\r\nConnection: close\r\n\r\n")
        assert await peer.is_cut()
    assert collected == 1


async def test_without_files_left_for_others_healthz_answers(tmp_path: Path, connect: Connect) -> None:
    program = tmp_path / "program.py"
    program.write_text(FULL)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    assert process.stdout is not None
    async with asyncio.timeout(120):
        port = int(await process.stdout.readline())
        try:
            for _ in range(20):
                peer = await connect(port)
                assert await peer.get() == b"HTTP/1.1 200 OK"
        finally:
            process.kill()
            await process.wait()


FULL = """
import asyncio, os, resource
from prometheus_client import CollectorRegistry
from xds.web.connections import Limits
from xds.web.server import WebServer, application

async def main():
    server = WebServer(application(CollectorRegistry(), list), host="127.0.0.1", port=0, limits=Limits(spare=2))
    await server.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        print(server.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_port_on_which_nothing_can_be_accepted_costs_next_to_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0
    loop = asyncio.get_running_loop()

    async def refuse(_: socket.socket) -> None:
        nonlocal attempts
        attempts += 1
        raise OSError(23, "Too many open files in system")

    monkeypatch.setattr(loop, "sock_accept", refuse)
    monkeypatch.setattr("xds.web.connections._BACKOFF", (0.001, LONG))
    await serve(Limits(spare=2))
    await eventually(lambda: attempts >= 6)
    assert caplog.text.count("cannot be accepted: Too many open files in system") == 1
