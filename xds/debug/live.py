"""A running control plane as a Subject: the debug server reads it through this.

What belongs here: which part has what, read between two steps of the Publisher. What does not: messages (`xds.debug.service`, `csds`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import TypeVar

from xds import __version__
from xds.config import Flags
from xds.coordination import Coordination
from xds.debug import subject
from xds.debug.programmed import Effects
from xds.debug.server import DebugServer
from xds.debug.subject import Effect, Envoy, Explained, InvalidArgument
from xds.explain.document import explain
from xds.explain.ingress import ingress_document
from xds.explain.owners import OwnedPath, owned_paths
from xds.explain.route_of import BadUrl, names_under, parse_url
from xds.json_forms import Json
from xds.kube.objects import Ingress
from xds.kube.world import hosts_of, ingresses_key
from xds.problem import Problem, Ref
from xds.publish.publisher import Publisher
from xds.render import names
from xds.server.fleet import Fleet
from xds.server.progress import Progress, Publication
from xds.snapshot import CLUSTER, ENDPOINT, ROUTE, Part, Snapshot
from xds.units.memo import Recorder
from xds.units.tables import Tables
from xds.units.traces import Asked

T = TypeVar("T")
_log = logging.getLogger("xds.debug")
_HEAVY = 500
"""Rules, paths and annotations of the Ingresses of a host beyond which it is translated in a thread: streams are answered meanwhile."""


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
            make = partial(explain, self.tables.world, self.tables, self.flags, self.publisher.all_problems(), request)
            found = await _beside(make) if self._is_heavy((*names_under(request.host), "")) else make()
            virtual_host, cluster = found["virtual_host"]["name"], found["cluster"] or ""
            parts = [Part(ROUTE, names.ROUTES, "" if virtual_host == "*" else virtual_host)]
            parts += [Part(type_url, cluster) for type_url in (CLUSTER, ENDPOINT) if cluster in self.snapshot[type_url]]
            programmed = self.progress.programmed(parts, self.progress.envoys(self.fleet.connected()), {})
        return Explained(found, found["route"]["name"], virtual_host, cluster, programmed)

    @property
    def steps(self) -> int:
        """How many steps the Publisher has made: objects, Problems and routes are the same while this number is."""
        return self.publisher.steps

    async def hosts(self) -> Sequence[str]:
        """Every host that an Ingress claims or gives as a further name, sorted; "" is the catch-all."""
        async with self.publisher.lock:
            return sorted({*self.tables.world.hosts, *self.tables.hosts.values})

    async def owned_paths(self, hosts: Sequence[str], seconds: float) -> tuple[Sequence[OwnedPath], int]:
        """The paths of the first of these hosts, and whose they are; and of how many hosts: as many as the seconds are enough for."""
        found: list[OwnedPath] = []
        async with self.publisher.lock:
            read, until = Recorder(self.tables.build), time.monotonic() + seconds
            for number, host in enumerate(hosts, 1):
                found += owned_paths(read, host)
                if time.monotonic() >= until:
                    return found, number
        return found, len(hosts)

    async def ingress(self, about: Ref) -> Json | None:
        """What there is to show of an Ingress (`xds.explain.ingress`); None where there is none of this name."""
        async with self.publisher.lock:
            item = self.tables.world.get(tuple(about))
            if not isinstance(item, Ingress):
                return None
            make = partial(ingress_document, self.tables, self.publisher.all_problems(), about)
            return await _beside(make) if self._is_heavy(hosts_of(item)) else make()

    def is_heavy(self, about: Ref) -> bool:
        """Whether the routes of all hosts of an Ingress are so many that they take long to translate."""
        item = self.tables.world.get(tuple(about))
        return isinstance(item, Ingress) and self._is_heavy(hosts_of(item))

    def _is_heavy(self, hosts: Iterable[str]) -> bool:
        """Whether the Ingresses of these hosts have more than _HEAVY entries; looks no further than that."""
        world, weight = self.tables.world, 0
        for about in (about for host in hosts for about in world.refs(ingresses_key(host))):
            weight += 1 + world.entries(tuple(about))
            if weight > _HEAVY:
                return True
        return False

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


async def _beside(work: Callable[[], T]) -> T:
    """The result of work that is done in a thread. Who waits and is cancelled waits all the same: the tables are read until it is done."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    finally:
        if not doing.done():
            await asyncio.wait([doing])


async def serve(live: Live, address: str) -> DebugServer | None:
    """The debug server, listening. If it cannot listen, that is logged, and everything else goes on without it: None."""
    try:
        server = DebugServer(live, address)
        await server.start()
    except (OSError, ValueError) as error:
        _log.warning("%s; everything else goes on without it", error)
        return None
    return server
