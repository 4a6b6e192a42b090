"""On which Envoys objects are in effect, for one object or for all.

What belongs here: joining the versions of objects (World), the parts that they went into (tables), and the Envoys that have accepted these
(Progress, and the other replicas). What does not: messages, and waiting (`xds.debug.service`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xds.debug.subject import Effect
from xds.kube.current import Current, version_of
from xds.server.frontier import ConnectedStream
from xds.server.progress import ConnectedEnvoys, LaggingEnvoy, Programmed, Progress
from xds.snapshot import ROUTE
from xds.units.kept import as_written
from xds.units.tables import Tables
from xds.units.traces import Asked, all_served, is_served, parts_of

if TYPE_CHECKING:
    from xds.replicas.peers import Peer

_EDIT = "its last edit is refused; what was valid before stays"
_AT_ONCE = 25
"""Objects that are processed between two yields to other tasks; fewer if many Envoys lag behind."""
_LATE_AT_ONCE = 10_000
"""Objects times Envoys that lag behind."""


class Effects:
    """Of one control plane.

    `streams` returns those of its Fleet. `origin` gets the version of an object at its origin, `others` how far the Envoys of the other
    replicas are. The tables are read with `lock`, which the Publisher holds while it changes them.
    """

    def __init__(
        self,
        tables: Tables,
        progress: Progress,
        streams: Callable[[], Iterable[ConnectedStream]],
        origin: Current,
        lock: asyncio.Lock,
        others: Callable[[], Awaitable[Sequence[Peer]]],
    ) -> None:
        self._tables = tables
        self._progress = progress
        self._streams = streams
        self._origin = origin
        self._lock = lock
        self._others = others

    async def current(self, asked: Asked) -> str | None:
        """The version of an object at its origin, not as it was read. None if it does not exist, "" if that is not known."""
        return await self._origin(asked.about)

    async def programmed(self, asked: Asked) -> Effect | None:
        """On which Envoys an object is in effect, as it was read. None if it does not exist, or is not served here."""
        peers = await self._others()
        async with self._lock:
            return self._effect_of(asked, self._progress.envoys(self._streams()), peers)

    async def all_programmed(self, namespace: str = "") -> AsyncGenerator[Effect]:
        """The same for every object that is served, in one namespace or in all. It yields to other tasks."""
        peers = await self._others()
        async with self._lock:
            asked = [one for one in all_served(self._tables) if namespace in ("", one.about.namespace)]
        asked.reverse()
        while asked:
            async with self._lock:
                envoys = self._progress.envoys(self._streams())
                some = max(1, min(_AT_ONCE, _LATE_AT_ONCE // (len(envoys.late) + 1), len(asked)))
                found = [self._effect_of(asked.pop(), envoys, peers) for _ in range(some)]
            for effect in found:
                if effect is not None:
                    yield effect
            await asyncio.sleep(0)

    def _effect_of(self, asked: Asked, envoys: ConnectedEnvoys, peers: Iterable[Peer]) -> Effect | None:
        item = self._tables.world.get(tuple(asked.about))
        if item is None or not is_served(self._tables, asked):
            return None
        parts = parts_of(self._tables, asked)
        held = {part: self._tables.holds[part].words for part in parts if part in self._tables.holds}
        written = as_written(self._tables.world, item)
        if written is not item:
            held |= {part: _EDIT for part in parts if part.type_url == ROUTE}
        version = version_of(written)
        return Effect(asked, version, _of_all(self._progress.programmed(parts, envoys, held), peers, asked.about.kind, version))


def _of_all(found: Programmed, peers: Iterable[Peer], kind: str, version: str) -> Programmed:
    """Add the Envoys of other replicas, whose node.ids are not known here. What is held here is held there as well."""
    if not version.isdecimal():
        return found
    held = any(placed.held is not None for placed in found.parts)
    envoys, lacking = found.envoys, list(found.lacking)
    for peer in peers:
        envoys += peer.envoys
        lacking += [LaggingEnvoy(f"one of {peer.replica}", ())] * (peer.envoys if held else peer.lacking(kind, int(version)))
    return replace(found, envoys=envoys, lacking=tuple(lacking))
