"""Whatever anybody writes: what comes out of it is something that a real Envoy accepts, and the innocent go on being served."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from prometheus_client import CollectorRegistry

from examples.apps import Address, HttpApp
from tests import strategies
from tests.envoy.harness import Envoy, Ports, Tls, fetch, make_certificate, wait_until
from xds.bootstrap import bootstrap
from xds.build.tables import Tables
from xds.config import Settings
from xds.kube.objects import Object, Ref, ref
from xds.kube.world import DEFAULT_CERTIFICATE, World
from xds.protocol.session import Session
from xds.server.fleet import Fleet
from xds.server.metrics import SHORT
from xds.server.server import Server
from xds.snapshot import TYPES, Snapshot

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(300)]

T = TypeVar("T")
EXAMPLES = 300
LISTEN = "127.83.0.1"
"""An address of its own, where no port of a wild ConfigMap is anybody else's."""


class Accepting:
    """A control plane in this process and one Envoy, which both live on while objects come and go."""

    def __init__(self, folder: Path) -> None:
        self.ports = Ports()
        self._folder = folder
        self._runner = asyncio.Runner()
        self._registry = CollectorRegistry()
        self._snapshot = Snapshot()
        self._fleet = Fleet(self._snapshot, self._registry, identifier="xds")
        self._server = Server(self._fleet, "127.0.0.1:0")
        self._app = HttpApp("innocent")
        self._flags = dataclasses.replace(
            strategies.FLAGS, listen_address=LISTEN, http_port=self.ports.take(), https_port=self.ports.take()
        )
        made = make_certificate(["ingress.local"])
        self._world = World(self._flags, {DEFAULT_CERTIFICATE: (made.cert_pem, made.key_pem)})
        self._tables = Tables(self._world)
        self._envoy: Envoy | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Let everything run until this is done."""
        return self._runner.run(coroutine)

    @property
    def envoy(self) -> Envoy:
        assert self._envoy is not None
        return self._envoy

    async def start(self) -> None:
        self._apply(strategies.innocent(*await self._app.start()))
        self._snapshot.ready = True
        self._fleet.publish()
        await self._server.start()
        config = bootstrap(Settings(xds_address=self._server.address, node_id="envoy-1"))
        self._envoy = await Envoy(config, self._folder, self.ports).start()
        await self._settled()

    async def stop(self) -> None:
        if self._envoy is not None:
            await self._envoy.stop()
        await self._server.stop(0)
        await self._app.stop()

    def close(self) -> None:
        self.run(self.stop())
        self._runner.close()
        self.ports.release()

    def take(self, items: Sequence[Object], *, ask: bool = False) -> list[str]:
        """Give Envoy these objects until it has accepted all that they are made into, and take them away again.

        Returns the codes of their Problems. With `ask`, the innocent site must answer meanwhile. Raises AssertionError with what Envoy said.
        """
        return self.run(self._take(items, ask=ask))

    async def _take(self, items: Sequence[Object], *, ask: bool) -> list[str]:
        try:
            self._apply(items)
            await self._settled()
            if ask:
                await self._ask_the_innocent()
            about = {ref(item) for item in items}
            return [problem.code for problem in self._tables.problems() if problem.about in about]
        finally:
            self._apply((), {ref(item) for item in items})
            await self._settled()

    def _apply(self, put: Sequence[Object], drop: set[Ref] = frozenset()) -> None:
        self._tables.apply(self._world.apply(put, drop)).publish(self._snapshot)
        assert not self._tables.build.failures
        self._fleet.publish()

    async def _ask_the_innocent(self) -> None:
        address: Address = (LISTEN, self._flags.https_port)
        answer = await fetch(address, host=strategies.INNOCENT, tls=Tls(strategies.INNOCENT))
        assert (answer.status, answer.app) == (200, "innocent")

    async def _settled(self) -> None:
        """Envoy has answered to everything, and accepted it."""
        before = self._rejections()

        async def look() -> bool:
            sessions = [stream.session for stream in self._fleet.connected()]
            return self._rejections() != before or (len(sessions) == 1 and self._holds_all(sessions[0]))

        await wait_until(look, "Envoy to accept")
        said = [text for stream in self._fleet.connected() for text in stream.session.rejections.values()]
        assert self._rejections() == before, f"Envoy rejected: {said}"

    def _holds_all(self, session: Session) -> bool:
        if any(standing.nonces for standing in session.standings.values()):
            return False
        return all(session.accepted(type_url, name) for type_url in TYPES for name in self._snapshot[type_url])

    def _rejections(self) -> float:
        counts = (self._registry.get_sample_value("xds_nacks_total", {"type": short}) for short in SHORT.values())
        return sum(count or 0 for count in counts)


@pytest.fixture(scope="module")
def accepting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accepting]:
    made = Accepting(tmp_path_factory.mktemp("accepting"))
    try:
        made.run(made.start())
        yield made
    finally:
        made.close()


def test_envoy_accepts_what_becomes_of_any_objects(accepting: Accepting) -> None:
    @hypothesis_settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(strategies.objects())
    def every(items: list[Object]) -> None:
        accepting.take(items)

    every()
