"""The DaemonSet of Envoys gets a new image: one node's Envoy after the other drains, ends and is replaced, while clients ask.

Two Envoys stand for two nodes, each with ports of its own. The balancer asks for their readiness as a cloud's does. What a pod does on its
way out is the deployed preStop hook, envoy/drain.sh.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from examples.apps import PIECE, Address, HttpApp, TcpApp
from tests import quick_yaml
from tests.deploy.composed import ENVOY
from tests.envoy.harness import (
    CHAT,
    Balancer,
    ControlPlane,
    GrpcEcho,
    Http1,
    Site,
    Tcp,
    Traffic,
    WebSocket,
    backend,
    config_map,
    grpc_channel,
    ingress,
    request_bytes,
    wait_until,
)
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.process import Process

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="there is no bash, or no curl"),
]

PROBED_EVERY = 0.1
"""Seconds between two looks of the balancer at who is ready."""
NOTICE, DEADLINE = 1, 60
"""Seconds of drain.sh: load balancers have this long to notice, and clients that long to go."""
STEPS, PACE = 20, 0.2
"""Pieces of something long, and the seconds between two of them: it lasts far into the drain."""


Exchange = Callable[[int], Awaitable[None]]
"""One step of something long, with its number."""


class Node:
    """A node's Envoy: its configuration, its admin page on a socket, and the process that runs now. A new one gets a new name."""

    def __init__(self, site: Site, folder: Path, name: str, server: ControlPlane) -> None:
        self.target = server.http
        self._site = site
        self._folder = folder
        self._name = name
        self._server = server
        self._admin = folder / f"{name}.sock"
        self._process: Process | None = None
        self._started = 0

    async def start(self) -> None:
        """Start an Envoy and wait until it is ready."""
        self._started += 1
        name = f"{self._name}-{self._started}"
        config = quick_yaml.safe_load(await self._server.bootstrap(name))
        config["admin"]["address"] = {"pipe": {"path": str(self._admin)}}
        path = self._site.path / f"{name}.json"
        path.write_text(json.dumps(config))
        options = ["--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "20", "-l", "warning"]
        self._process = Process(name, [envoy_binary(), "-c", str(path), *options], self._site.path)
        self._site.processes.append(self._process)
        await self._process.start()
        await wait_until(self.ready, f"{name} to be ready")

    async def ready(self) -> bool:
        """What the readiness probe of the pod asks for."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._admin))
            with contextlib.closing(writer):
                writer.write(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
                return (await reader.readline()).split()[1:2] == [b"200"]
        except OSError:
            return False

    async def terminate(self) -> None:
        """What the kubelet does: the preStop hook, then SIGTERM."""
        command = ["bash", str(ENVOY / "drain.sh"), str(NOTICE), str(DEADLINE)]
        hook = await asyncio.create_subprocess_exec(*command, env={"ADMIN_SOCKET": str(self._admin), "PATH": os.environ["PATH"]})
        assert await hook.wait() == 0
        assert self._process
        assert await self._process.stop() == 0

    async def stop(self) -> None:
        """End it at once."""
        if self._process:
            await self._process.stop()


async def probe(balancer: Balancer, nodes: list[Node]) -> None:
    """Give the balancer the nodes that are ready, again and again."""
    while True:
        ready = await asyncio.gather(*(node.ready() for node in nodes))
        balancer.targets[:] = [node.target for node, is_ready in zip(nodes, ready, strict=True) if is_ready]
        await asyncio.sleep(PROBED_EVERY)


@contextlib.asynccontextmanager
async def balanced(site: Site, nodes: list[Node]) -> AsyncIterator[Address]:
    """The address of a balancer in front of these nodes, which are started, for the length of a block."""
    balancer = Balancer()
    async with asyncio.TaskGroup() as tasks:
        try:
            for node in nodes:
                await node.start()
            probing = tasks.create_task(probe(balancer, nodes))

            async def all_are_targets() -> bool:
                return len(balancer.targets) == len(nodes)

            await wait_until(all_are_targets, "the balancer to know every node")
            yield await site.run(balancer)
            probing.cancel()
        finally:
            for node in nodes:
                await node.stop()


async def test_replacing_one_envoy_after_the_other_loses_no_request(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    web = await site.run(HttpApp("web"))
    site.folder.write("web.yaml", *backend("web", web), ingress("web", "web.test", {"/": ("web", 80)}))
    folder = tmp_path_factory.mktemp("n")
    servers = [await site.start_control_plane(), await site.start_control_plane()]
    nodes = [Node(site, folder, f"node-{number}", server) for number, server in enumerate(servers)]
    async with balanced(site, nodes) as address, Traffic(address, host="web.test", clients=8) as traffic:
        for node in nodes:
            await node.terminate()
            await node.start()
        await traffic.flows()
    assert traffic.answers().keys() == {(200, "web")}


async def test_what_is_open_when_an_envoy_is_replaced_goes_on_to_its_end(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A download, an upload, a websocket, a stream of gRPC and a TCP connection: the hook waits for all, and for nobody after them."""
    web, line, echo = await site.run(HttpApp("web")), await site.run(GrpcEcho("line")), await site.run(TcpApp("echo"))
    port = site.ports.take()
    site.folder.write("web.yaml", *backend("web", web), ingress("web", "web.test", {"/": ("web", 80)}, {"proxy-body-size": "0"}))
    site.folder.write("line.yaml", *backend("line", line), ingress("line", "line.test", {"/": ("line", 80)}, {"backend-protocol": "GRPC"}))
    site.folder.write("echo.yaml", *backend("echo", echo), config_map("tcp", {str(port): "default/echo:80"}))
    node = Node(site, tmp_path_factory.mktemp("n"), "node", await site.start_control_plane("--tcp-services-configmap=default/tcp"))
    await node.start()
    try:
        ending = await outlived(node, ("127.0.0.1", port))
        gone = asyncio.get_running_loop().time()
        await ending
        assert asyncio.get_running_loop().time() - gone < DEADLINE / 4
    finally:
        await node.stop()


async def outlived(node: Node, tcp: Address) -> asyncio.Task[None]:
    """Open one of each, let them go on far into the end of the Envoy, and close them; return its end, which goes on.

    A client of gRPC keeps its connection until nobody knows it any more, so nothing of it is returned.
    """
    async with contextlib.AsyncExitStack() as stack:
        exchanges = [
            *(await downloaded(stack, node.target), await uploaded(stack, node.target), await talked(stack, node.target)),
            *(await called(stack, node.target), await asked(stack, tcp)),
        ]
        await step(exchanges, 0)
        ending = asyncio.create_task(node.terminate())
        for number in range(1, STEPS):
            await asyncio.sleep(PACE)
            await step(exchanges, number)
        assert not await node.ready()
        assert not ending.done()
    return ending


async def step(exchanges: list[Exchange], number: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for exchange in exchanges:
            tasks.create_task(exchange(number))


async def downloaded(stack: contextlib.AsyncExitStack, address: Address) -> Exchange:
    """A download of which each step reads one part; the last one must be its end."""
    connection = await stack.enter_async_context(await Http1.open(address))
    size = STEPS * 64 * len(PIECE)
    await connection.send(request_bytes("GET", f"/big/{size}", host="web.test"))
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")

    async def read(_: int) -> None:
        await connection.reader.readexactly(size // STEPS)

    return read


async def uploaded(stack: contextlib.AsyncExitStack, address: Address) -> Exchange:
    """An upload of which each step sends one part; the answer to the last one counts all."""
    connection = await stack.enter_async_context(await Http1.open(address))
    size = STEPS * len(PIECE)
    head = f"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: {size}\r\n\r\n"
    await connection.send(head.encode())

    async def send(number: int) -> None:
        await connection.send(PIECE)
        if number == STEPS - 1:
            answer = await connection.receive("POST")
            assert (answer.status, answer.json()["body_length"]) == (200, size)

    return send


async def talked(stack: contextlib.AsyncExitStack, address: Address) -> Exchange:
    """A websocket of which each step has one message echoed."""
    websocket = await stack.enter_async_context(await WebSocket.open(address, host="web.test"))

    async def ask(number: int) -> None:
        assert await websocket.ask(b"%d" % number) == b"%d" % number

    return ask


async def called(stack: contextlib.AsyncExitStack, address: Address) -> Exchange:
    """A stream of gRPC of which each step has one message answered."""
    channel = await stack.enter_async_context(grpc_channel(address, "line.test"))
    call = channel.stream_stream(CHAT)()

    async def chat(number: int) -> None:
        await call.write(b"%d" % number)
        assert await call.read() == b"line: %d" % number

    return chat


async def asked(stack: contextlib.AsyncExitStack, address: Address) -> Exchange:
    """A TCP connection of which each step has one line answered."""
    connection = await stack.enter_async_context(await Tcp.open(address))

    async def ask(number: int) -> None:
        assert await connection.ask(str(number)) == f"echo: {number}"

    return ask
