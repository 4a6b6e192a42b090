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
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from examples.apps import Address, HttpApp
from tests.deploy.composed import ENVOY
from tests.envoy.harness import Balancer, ControlPlane, Site, Traffic, backend, ingress, wait_until
from tests.envoy.harness.envoy import envoy_binary
from tests.envoy.harness.process import Process

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="there is no bash, or no curl"),
]

PROBED_EVERY = 0.1
"""Seconds between two looks of the balancer at who is ready."""
NOTICE, DEADLINE = 1, 60
"""Seconds of drain.sh: load balancers have this long to notice, and clients that long to go."""


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
        config = yaml.safe_load(await self._server.bootstrap(name))
        config["admin"]["address"] = {"pipe": {"path": str(self._admin)}}
        path = self._site.path / f"{name}.json"
        path.write_text(json.dumps(config))
        options = ["--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "20", "-l", "warning"]
        self._process = Process(name, [envoy_binary(), "-c", str(path), *options], self._site.path)
        self._site.processes.append(self._process)
        await self._process.start()
        await wait_until(self.ready, f"{name} to be ready", deadline=60)

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
