"""A running control plane as a Subject: the debug server reads it through this.

What belongs here: which part has what, read between two steps of the Publisher. What does not: messages (`xds.debug.service`, `csds`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from xds import __version__
from xds.config import Flags
from xds.coordination import Coordination
from xds.debug import subject
from xds.debug.programmed import Effects
from xds.debug.server import DebugServer
from xds.debug.subject import Effect, Envoy, Explained, InvalidArgument
from xds.explain.document import explain
from xds.explain.route_of import BadUrl, parse_url
from xds.problem import Problem
from xds.publish.publisher import Publisher
from xds.render import names
from xds.server.fleet import Fleet
from xds.server.progress import Progress, Publication
from xds.snapshot import CLUSTER, ENDPOINT, ROUTE, Part, Snapshot
from xds.units.tables import Tables
from xds.units.traces import Asked

_log = logging.getLogger("xds.debug")


@dataclass(frozen=True)
class Live:
    """Is a `xds.debug.subject.Subject`.

    `name` is that of the pod or host. `waiting` returns what the first Snapshot waits for, `staleness` is that of the Source.
    """

    name: str
    flags: Flags
    snapshot: Snapshot
    tables: Tables
    publisher: Publisher
    fleet: Fleet
    progress: Progress
    coordination: Coordination
    waiting: Callable[[], Sequence[str]]
    staleness: Callable[[], Mapping[str, float]]

    @property
    def ready(self) -> asyncio.Event:
        """Set once there is a complete Snapshot."""
        return self.fleet.ready

    def replica(self) -> subject.Replica:
        """This process."""
        return subject.Replica(self.name, __version__, tuple(self.waiting()), self.staleness())

    def envoys(self) -> Sequence[Envoy]:
        """The streams of connected Envoys, oldest first."""
        return self.fleet.connected()

    def history(self) -> Sequence[Publication]:
        """The last changes as they are now, newest first."""
        return self.progress.history()

    def times(self, type_url: str) -> Mapping[int, datetime]:
        """Generation of the State of a type → when it was published, for the last changes."""
        return self.progress.times(type_url)

    async def problems(self) -> Sequence[Problem]:
        """Those of objects, and those of files, kinds and other places."""
        async with self.publisher.lock:
            return self.publisher.all_problems()

    async def explain(self, url: str, method: str) -> Explained:
        """What answers a URL, and who has the virtual host, the cluster and its endpoints. Raises InvalidArgument for what is no URL."""
        try:
            request = parse_url(url, method)
        except BadUrl as error:
            raise InvalidArgument(f"{url[:80]!r} {error}.") from None
        async with self.publisher.lock:
            found = explain(self.tables.world, self.tables, self.flags, self.publisher.all_problems(), request)
            virtual_host, cluster = found["virtual_host"]["name"], found["cluster"] or ""
            parts = [Part(ROUTE, names.ROUTES, "" if virtual_host == "*" else virtual_host)]
            parts += [Part(type_url, cluster) for type_url in (CLUSTER, ENDPOINT) if cluster in self.snapshot[type_url]]
            programmed = self.progress.programmed(parts, self.progress.envoys(self.fleet.connected()), {})
        return Explained(found, found["route"]["name"], virtual_host, cluster, programmed)

    async def current(self, asked: Asked) -> str | None:
        """The version of an object at its origin."""
        return await self._effects.current(asked)

    async def programmed(self, asked: Asked) -> Effect | None:
        """On how many Envoys an object is in effect, as it was read."""
        return await self._effects.programmed(asked)

    def all_programmed(self, namespace: str) -> AsyncIterator[Effect]:
        """The same for all objects of a namespace, or of all."""
        return self._effects.all_programmed(namespace)

    @cached_property
    def _effects(self) -> Effects:
        of = self.coordination
        return Effects(self.tables, self.progress, self.fleet.connected, of.current, self.publisher.lock, of.others)


async def serve(live: Live, address: str) -> DebugServer | None:
    """The debug server, listening. If it cannot listen, that is logged, and everything else goes on without it: None."""
    try:
        server = DebugServer(live, address)
        await server.start()
    except (OSError, ValueError) as error:
        _log.warning("%s; everything else goes on without it", error)
        return None
    return server
