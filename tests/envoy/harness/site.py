"""A whole site for one test: a folder of manifests, the management server, Envoys, and applications behind them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.apps import Address, App
from tests.envoy.harness.control_plane import ControlPlane
from tests.envoy.harness.envoy import Envoy
from tests.envoy.harness.http1 import Headers, Response, fetch
from tests.envoy.harness.manifests import Folder
from tests.envoy.harness.ports import Ports
from tests.envoy.harness.process import Process
from tests.envoy.harness.tls import Tls
from tests.envoy.harness.waiting import PATIENCE, wait_until


class Site:
    """Starts things and ends them all when it is left, in reverse order. Nothing runs at first.

    With a management server: `await site.run(app)`, write `site.folder`, `await site.start()`, then ask `site.http` or `site.get(…)`.
    With a configuration of one's own: `await site.static_envoy(config)`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ports = Ports()
        self.folder = Folder(path / "manifests")
        self.processes: list[Process] = []
        self._stack = contextlib.AsyncExitStack()
        self._control_plane: ControlPlane | None = None
        self._envoys: list[Envoy] = []

    async def __aenter__(self) -> Site:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stack.aclose()
        finally:
            self.ports.release()

    @property
    def control_plane(self) -> ControlPlane:
        """The management server that was started last."""
        assert self._control_plane, "no management server was started"
        return self._control_plane

    @property
    def envoy(self) -> Envoy:
        """The first Envoy that was started."""
        assert self._envoys, "no Envoy was started"
        return self._envoys[0]

    @property
    def envoys(self) -> list[Envoy]:
        """All Envoys that were started."""
        return list(self._envoys)

    @property
    def http(self) -> Address:
        """Where Envoy answers http."""
        return self.control_plane.http

    @property
    def https(self) -> Address:
        """Where Envoy answers https."""
        return self.control_plane.https

    async def run(self, app: App, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Start an application and return where it listens. Nobody else gets its port while the site lasts, also after it was stopped."""
        address = await app.start(host, port or self.ports.take())
        self._stack.push_async_callback(app.stop)
        return address

    async def run_process(self, process: Process) -> None:
        """Start a further process, which is ended with the site."""
        self.processes.append(process)
        self._stack.push_async_callback(process.stop)
        await process.start()

    async def start(self, *flags: str) -> None:
        """Start the management server with these further flags, and one Envoy, and wait until Envoy serves."""
        await self.start_control_plane(*flags)
        await self.start_envoy()

    async def start_control_plane(self, *flags: str, ready: bool = True, from_folder: bool = True) -> ControlPlane:
        """Start the management server over `folder`, or over what the flags say, and return it."""
        found = ControlPlane(self.folder.path if from_folder else None, self.path, self.ports, flags)
        self.processes.append(found.process)
        self._stack.push_async_callback(found.stop)
        self._control_plane = await found.start(ready=ready)
        return found

    async def start_envoy(self, *, ready: bool = True, node_id: str = "envoy-1", bootstrap: Sequence[str] = ()) -> Envoy:
        """Start an Envoy that asks the management server, with these further flags of `xds bootstrap`, and return it."""
        return await self.static_envoy(await self.control_plane.bootstrap(node_id, flags=bootstrap), ready=ready)

    async def start_beside_authz(self, node_id: str = "envoy-1") -> Process:
        """Start an Envoy with the authorisation service beside it, and return the service."""
        socket = self.path / f"{node_id}.sock"
        authz = Process(f"authz-{node_id}", self.control_plane.authz(socket, node_id), self.path)
        self.processes.append(authz)
        self._stack.push_async_callback(authz.stop)
        await authz.start()

        async def listening() -> bool:
            return socket.exists()

        await wait_until(listening, "the authorisation service to listen")
        await self.static_envoy(await self.control_plane.bootstrap(node_id, authz=socket))
        return authz

    async def static_envoy(self, config: Mapping[str, Any] | str, *, ready: bool = True, flags: Sequence[str] = ()) -> Envoy:
        """Start an Envoy with a bootstrap and further command-line flags, and return it."""
        found = Envoy(config, self.path, self.ports, flags=flags)
        self.processes.append(found.process)
        self._stack.push_async_callback(found.stop)
        self._envoys.append(await found.start(ready=ready))
        return found

    async def get(
        self,
        target: str = "/",
        *,
        host: str,
        tls: Tls | None = None,
        method: str = "GET",
        headers: Headers = (),
        body: bytes = b"",
    ) -> Response:
        """Send one request through Envoy: to the http port, or with `tls` to the https port."""
        address = self.https if tls else self.http
        return await fetch(address, target, host=host, tls=tls, method=method, headers=headers, body=body)

    async def until_answered(self, target: str, by: str, *, host: str, tls: Tls | None = None, deadline: float = PATIENCE) -> Response:
        """Ask until the HttpApp of this name answers, and return its answer."""

        async def look() -> Response | None:
            response = await self.get(target, host=host, tls=tls)
            if response.app == by:
                return response
            raise AssertionError(f"{response.status} {response.body[:200]!r}")

        found = await wait_until(look, f"{by} to answer {host}{target}", deadline=deadline)
        assert found is not None
        return found

    async def until_status(self, target: str, status: int, *, host: str, tls: Tls | None = None, deadline: float = PATIENCE) -> Response:
        """Ask until the answer has this status, and return it."""

        async def look() -> Response | None:
            response = await self.get(target, host=host, tls=tls)
            if response.status == status:
                return response
            raise AssertionError(f"{response.status} {response.body[:200]!r}")

        found = await wait_until(look, f"{host}{target} to be answered with {status}", deadline=deadline)
        assert found is not None
        return found

    def report(self) -> str:
        """Return the end of the output of everything that was started, for people."""
        return "\n\n".join(process.report() for process in self.processes)
