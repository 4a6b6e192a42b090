"""The preStop hook of the Envoys: what it asks of the admin page, in which order, and when it is done."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.apps import Address
from tests import quick_yaml
from tests.deploy.composed import ENVOY
from tests.envoy.harness import Site
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.http1 import Http1
from tests.envoy.harness.process import Process
from tests.envoy.harness.waiting import wait_until

SCRIPT = ENVOY / "drain.sh"
pytestmark = pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="there is no bash, or no curl")


class Admin:
    """An admin page that keeps what it was asked, and says how many clients each listener has."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.connected = ""
        self.silent = False
        self.socket = folder / "admin.sock"
        self.news = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(" ".join(head.split()[:2]))
        self.news.set()
        if self.silent:
            writer.close()
            return
        writer.write(f"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{self.connected}".encode())
        await writer.drain()
        writer.close()

    async def until_more(self, than: int) -> None:
        async with asyncio.timeout(120):
            while len(self.asked) <= than:
                self.news.clear()
                await self.news.wait()

    async def until(self, asked: str) -> None:
        async with asyncio.timeout(120):
            while not any(asked in each for each in self.asked):
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def admin(folder: Path) -> AsyncIterator[Admin]:
    found = Admin(folder)
    async with await asyncio.start_unix_server(found.answer, found.socket):
        yield found


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short: the paths of sockets are."""
    return tmp_path_factory.mktemp("a")


async def start(admin: Path, notice: int, deadline: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "bash",
        str(SCRIPT),
        str(notice),
        str(deadline),
        env={"ADMIN_SOCKET": str(admin), "PATH": "/usr/bin:/bin", "http_proxy": "http://127.0.0.1:1"},
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, bytes]:
    async with asyncio.timeout(120):
        _, said = await process.communicate()
    return process.returncode, said


async def test_health_fails_before_listeners_drain_and_without_clients_it_is_done(admin: Admin) -> None:
    admin.connected = "listener.http.downstream_cx_active: 0\n"
    assert await ended(await start(admin.socket, 0, 100)) == (0, b"")
    assert admin.asked == ["POST /healthcheck/fail", "POST /drain_listeners?graceful", "GET /stats?filter=downstream_cx_active"]


@pytest.mark.parametrize("listener", ["http", "https", "tcp/9000"])
async def test_it_waits_for_the_clients_of_each_listener(admin: Admin, listener: str) -> None:
    admin.connected = f"listener.probe.downstream_cx_active: 0\nlistener.{listener}.downstream_cx_active: 2\n"
    process = await start(admin.socket, 0, 100)
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
    assert await ended(await start(admin.socket, 0, 100)) == (0, b"")


async def test_it_ends_when_its_time_is_up(admin: Admin) -> None:
    admin.connected = "listener.http.downstream_cx_active: 1\n"
    assert await ended(await start(admin.socket, 0, 1)) == (0, b"")


@pytest.mark.parametrize("left", [False, True])
async def test_where_there_is_no_envoy_it_is_done(folder: Path, left: bool) -> None:
    """With the socket of one that was killed, too."""
    if left:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(folder / "admin.sock"))
    assert await ended(await start(folder / "admin.sock", 100, 100)) == (0, b"")


async def test_an_envoy_that_does_not_answer_is_not_taken_for_one_without_clients(admin: Admin) -> None:
    """As one does that has no time: its clients are still there."""
    admin.connected, admin.silent = "listener.http.downstream_cx_active: 1\n", True
    process = await start(admin.socket, 0, 100)
    await admin.until("GET")
    asked = len(admin.asked)
    await admin.until_more(asked)
    assert process.returncode is None
    admin.silent, admin.connected = False, ""
    assert await ended(process) == (0, b"")


@pytest.mark.envoy
async def test_a_real_envoy_says_that_it_goes_and_ends_when_its_clients_have_gone(tmp_path: Path, folder: Path) -> None:
    async with Site(tmp_path) as site:
        config = quick_yaml.safe_load(await (await site.start_control_plane()).bootstrap())
        config["admin"]["address"] = {"pipe": {"path": str(folder / "admin.sock")}}
        (tmp_path / "envoy.json").write_text(json.dumps(config))
        envoy = Process(
            "envoy", [envoy_binary(), "-c", str(tmp_path / "envoy.json"), "--disable-hot-restart", "--concurrency", "1"], tmp_path
        )
        await envoy.start()
        try:
            await wait_until(lambda: listens(site.http), "Envoy to listen")
            async with await Http1.open(site.http) as client:
                assert (await client.request(host="any.example")).header("connection") is None
                process = await start(folder / "admin.sock", 0, 100)

                async def closing() -> bool:
                    async with await Http1.open(site.http) as other:
                        return (await other.request(host="any.example")).header("connection") == "close"

                await wait_until(closing, "Envoy to say that it goes")
                assert process.returncode is None
                assert (await client.request(host="any.example")).header("connection") == "close"
            assert await ended(process) == (0, b"")
        finally:
            await envoy.stop()


async def listens(address: Address) -> bool:
    try:
        async with await Http1.open(address):
            return True
    except OSError:
        return False
