"""The preStop hook of the Envoys: what it asks of the admin page, in which order, and when it is done."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.deploy.composed import DEPLOY
from tests.envoy.harness import Site
from tests.envoy.harness.http1 import Http1, fetch
from tests.envoy.harness.waiting import wait_until

SCRIPT = DEPLOY / "docker" / "drain.sh"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


class Admin:
    """An admin page that keeps what it was asked, and says how many clients each listener has."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.connected = ""
        self.port = 0
        self.news = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(" ".join(head.split()[:2]))
        self.news.set()
        writer.write(f"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{self.connected}".encode())
        await writer.drain()
        writer.close()

    async def until(self, asked: str) -> None:
        async with asyncio.timeout(30):
            while not any(asked in each for each in self.asked):
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    found = Admin()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


async def start(port: int, notice: int, deadline: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "bash",
        str(SCRIPT),
        str(notice),
        str(deadline),
        env={"ADMIN_PORT": str(port), "PATH": "/usr/bin:/bin"},
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, bytes]:
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    return process.returncode, said


async def test_health_fails_before_listeners_drain_and_without_clients_it_is_done(admin: Admin) -> None:
    admin.connected = "listener.http.downstream_cx_active: 0\n"
    assert await ended(await start(admin.port, 0, 100)) == (0, b"")
    assert admin.asked == ["POST /healthcheck/fail", "POST /drain_listeners?graceful", "GET /stats?filter=downstream_cx_active"]


@pytest.mark.parametrize("listener", ["http", "https", "tcp/9000"])
async def test_it_waits_for_the_clients_of_each_listener(admin: Admin, listener: str) -> None:
    admin.connected = f"listener.probe.downstream_cx_active: 0\nlistener.{listener}.downstream_cx_active: 2\n"
    process = await start(admin.port, 0, 100)
    await admin.until("GET")
    assert process.returncode is None
    admin.connected = admin.connected.replace(": 2", ": 0")
    assert await ended(process) == (0, b"")
    assert admin.asked.count("GET /stats?filter=downstream_cx_active") >= 2


async def test_it_does_not_wait_for_itself_nor_for_probes_nor_count_anybody_twice(admin: Admin) -> None:
    """Its own question is a connection to the admin page; and a worker's connections are those of its listener."""
    admin.connected = (
        "http.admin.downstream_cx_active: 1\nlistener.admin.downstream_cx_active: 1\nlistener.probe.downstream_cx_active: 1\n"
        "listener.http.worker_0.downstream_cx_active: 1\nlistener.http.downstream_cx_active: 0\n"
    )
    assert await ended(await start(admin.port, 0, 100)) == (0, b"")


async def test_it_ends_when_its_time_is_up(admin: Admin) -> None:
    admin.connected = "listener.http.downstream_cx_active: 1\n"
    assert await ended(await start(admin.port, 0, 1)) == (0, b"")


async def test_where_there_is_no_envoy_it_is_done(admin: Admin) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert await ended(await start(nobody.getsockname()[1], 100, 100)) == (0, b"")
    assert admin.asked == []


@pytest.mark.envoy
async def test_a_real_envoy_says_that_it_goes_and_ends_when_its_clients_have_gone(tmp_path: Path) -> None:
    async with Site(tmp_path) as site:
        await site.start()
        async with await Http1.open(site.http) as client:
            assert (await client.request(host="any.example")).header("connection") is None
            process = await start(site.envoy.admin[1], 0, 100)

            async def failing() -> bool:
                return (await fetch(site.envoy.admin, "/ready", host="admin")).status == 503

            await wait_until(failing, "Envoy to say that it goes")
            assert process.returncode is None
            assert (await client.request(host="any.example")).header("connection") == "close"
        assert await ended(process) == (0, b"")
