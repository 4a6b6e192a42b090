"""A control plane as far as reporting goes: a Source, a World, and a Reporter that is told of every Change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.kube.writable import Writable
from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.apiserver import ApiServer
from xds.kube.apiserver.faults import WritePauses
from xds.kube.apiserver.reflector import Backoff
from xds.kube.world import World
from xds.problem import Problem
from xds.report.reporter import Reporter
from xds.units.memo import Beside, Build

HASTY = WritePauses(first=0.001, longest=0.01, throttled=0.01, restart=0.01, debounce=0.001, confirm_denial=0.02)
FLAGS: dict[str, Any] = {
    "watch_ingress_without_class": True,
    "publish_status_address": ("192.0.2.1",),
    "pod_namespace": "here",
    "pod_name": "xds-0",
    "election_ttl": 3.0,
}


class Replica:
    """One replica; `told` has the Problems of reporting by place, `heard` all that there ever were."""

    def __init__(self, server: Writable, folder: Path, identity: str = "xds-0_1", **flags: Any) -> None:
        path = server.reading.kubeconfig(folder / "kubeconfig")
        self.settings = Flags(kubeconfig=path, **(FLAGS | flags))
        self.world = World(self.settings)
        self.told: dict[str, list[str]] = {}
        self.heard: list[str] = []
        self.api = Api(self.settings)
        self.cluster = ApiServer(self.settings, backoff=Backoff(first=0.01, longest=0.05))
        self.reporter = Reporter(self.settings, self.world, Beside(Build(self.world.get)), self.api, identity, self._tell, HASTY)
        self._taking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.api.open()
        changes = self.cluster.changes()
        change = await anext(changes)
        self.world.apply(change.put, change.drop)
        self.reporter.start()

        async def take() -> None:
            async for change in changes:
                self.world.apply(change.put, change.drop)
                self.reporter.changed(change)

        self._taking = asyncio.create_task(take())

    def judged(self, *problems: Problem) -> None:
        self.reporter.judged(list(problems))

    async def vanish(self) -> None:
        """As a process does that is killed: nothing is said any more."""
        await self.api.close()
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
        await self.cluster.close()

    async def stop(self) -> None:
        await self.reporter.stop()
        await self.vanish()

    def _tell(self, place: str, problems: tuple[Problem, ...]) -> None:
        self.told[place] = [str(problem) for problem in problems]
        self.heard += self.told[place]


@asynccontextmanager
async def replica(server: Writable, folder: Path, identity: str = "xds-0_1", **flags: Any) -> AsyncIterator[Replica]:
    made = Replica(server, folder, identity, **flags)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
