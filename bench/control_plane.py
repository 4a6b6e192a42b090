"""The control plane in a process of its own, given objects one by one (`bench.injected`)."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from bench.injected import LOOPBACK
from bench.objects import Raw
from bench.waits import Wait
from examples.apps import Address
from tests.envoy.harness import Ports, Process, fetch, wait_until


class ControlPlane:
    """A World of `n` applications, served on loopback. What it says is kept in `folder`."""

    def __init__(self, n: int, folder: Path, ports: Ports) -> None:
        self.n = n
        self.http: Address = (LOOPBACK, ports.take())
        self._events: Address = (LOOPBACK, ports.take())
        self._xds: Address = (LOOPBACK, ports.take())
        self.health: Address = (LOOPBACK, ports.take())
        addresses = (self._events, self._xds, self.health, self.http, (LOOPBACK, ports.take()))
        self._connection: socket.socket | None = None
        words = [str(n), *(str(port) for _, port in addresses)]
        self.process = Process("xds", [sys.executable, "-m", "bench.injected", *words], folder)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def xds_address(self) -> str:
        """Where Envoys find it."""
        return f"{self._xds[0]}:{self._xds[1]}"

    async def start(self) -> None:
        """Start it, and wait until it is ready and takes objects."""
        await self.process.start()
        await wait_until(self._ready, "the control plane to be ready", deadline=60)
        self._connection = await wait_until(self._connect, "a connection for events")

    async def stop(self) -> None:
        """End it."""
        if self._connection is not None:
            self._connection.close()
        await self.process.stop()

    def put(self, *raws: Raw) -> None:
        """Give it objects, one event each."""
        assert self._connection is not None, "it was not started"
        self._connection.sendall(b"".join(raw.body + b"\n" for raw in raws))

    async def made(self, responses: int) -> float:
        """Wait until so many responses were handed to gRPC after the last object; returns the milliseconds since it came."""
        assert self._connection is not None, "it was not started"
        self._connection.sendall(b"%d\n" % responses)
        return float(await asyncio.to_thread(self._connection.recv, 100))

    def watch(self) -> None:
        """Measure from now on how long its event loop keeps others waiting."""
        assert self._connection is not None, "it was not started"
        self._connection.sendall(b"watch\n")

    async def waited(self) -> Wait:
        """The longest wait since `watch`, and the most CPU in one."""
        assert self._connection is not None, "it was not started"
        self._connection.sendall(b"waited\n")
        return Wait(*map(float, (await asyncio.to_thread(self._connection.recv, 100)).split()))

    async def _ready(self) -> bool:
        assert self.process.running, self.process.report()
        return (await fetch(self.health, "/readyz", host="xds")).status == 200

    async def _connect(self) -> socket.socket:
        return socket.create_connection(self._events)
