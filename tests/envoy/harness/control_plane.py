"""The management server under test, as a process of its own: `python -m xds serve`."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from examples.apps import Address
from tests.envoy.harness.http1 import Response, fetch
from tests.envoy.harness.ports import Ports
from tests.envoy.harness.process import Process
from tests.envoy.harness.waiting import PATIENCE, wait_until
from xds.cli.arguments import parse
from xds.cli.bootstrap import bootstrap_text

XDS = [sys.executable, "-m", "xds"]


class ControlPlane:
    """`xds serve` over a folder of manifests (None: the flags say where objects come from), on loopback and on ports of its own.

    `flags` are added at the end, so that they win (`--listen-address ::`). It may be stopped or killed and started again: same ports.
    `program` is another version's.
    """

    _numbers = itertools.count(1)

    def __init__(
        self, manifests: Path | None, folder: Path, ports: Ports, flags: Sequence[str] = (), *, program: Sequence[str] = XDS
    ) -> None:
        self.xds: Address = ("127.0.0.1", ports.take())
        self.debug: Address = ("127.0.0.1", ports.take())
        self.dashboard: Address = ("127.0.0.1", ports.take())
        self.health: Address = ("127.0.0.1", ports.take())
        self.http: Address = ("127.0.0.1", ports.take())
        self.https: Address = ("127.0.0.1", ports.take())
        arguments = [
            *("serve", *(("--manifests", str(manifests)) if manifests else ())),
            *("--xds-address", _joined(self.xds), "--debug-address", _joined(self.debug)),
            *("--dashboard-address", _joined(self.dashboard)),
            *("--listen-address", "127.0.0.1", "--healthz-host", self.health[0], "--healthz-port", str(self.health[1])),
            *("--http-port", str(self.http[1]), "--https-port", str(self.https[1]), "--log-format", "text"),
        ]
        self.process = Process(f"xds-{next(self._numbers)}", [*program, *arguments, *flags], folder)

    async def start(self, *, ready: bool = True, deadline: float = PATIENCE) -> Self:
        """Start it and, if `ready`, wait until /readyz says 200. Raises AssertionError with its output where it does not."""
        await self.process.start()
        if ready:
            try:
                await wait_until(self._ready_or_ended, f"/readyz of {self.process.name} to say 200", deadline=deadline)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.process.report()}") from None
            assert self.process.running, self.process.report()
        return self

    async def stop(self) -> int:
        """End it as Kubernetes would (SIGTERM); return its exit code."""
        return await self.process.stop()

    async def kill(self) -> int:
        """End it with SIGKILL; return its exit code."""
        return await self.process.kill()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def get(self, path: str) -> Response:
        """Ask its HTTP port: /healthz, /readyz, /metrics."""
        return await fetch(self.health, path, host="xds")

    def authz(self, socket: Path, node_id: str = "envoy-1") -> list[str]:
        """The command of the authorisation service beside an Envoy of this server."""
        return [*XDS, "authz", "--xds-address", _joined(self.xds), "--node-id", node_id, "--authz-address", f"unix:{socket}"]

    async def bootstrap(
        self, node_id: str = "envoy-1", node_cluster: str = "ingress", authz: Path | None = None, flags: Sequence[str] = ()
    ) -> str:
        """Return the bootstrap of an Envoy that asks this server, and an authorisation service on the socket `authz`; with further flags.

        It is what `xds bootstrap` prints (`tests/cli/test_bootstrap.py`), without a process for each of hundreds of Envoys.
        """
        named = ["--node-id", node_id, "--node-cluster", node_cluster, *(["--authz-address", f"unix:{authz}"] if authz else [])]
        words = ["--xds-address", _joined(self.xds), *named, "--admin-address", "127.0.0.1:9901", *flags]
        return bootstrap_text(parse("bootstrap", words, {}).settings)

    async def _ready_or_ended(self) -> bool:
        if not self.process.running:
            return True
        with contextlib.suppress(OSError):
            return (await self.get("/readyz")).status == 200
        return False


def _joined(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
