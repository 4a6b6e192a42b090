"""How far objects are on their way to the Envoys, for the debug service, which asks for one or for all.

What belongs here: bringing together what the World has read, which parts that went into, and which Envoys have these. What does not: how
any of the three is known, how it is told, and waiting (`xds.debug`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xds.debug.subject import Effect
from xds.kube.current import Current, version_of
from xds.server.progress import ConnectedEnvoys, ConnectedStream, LaggingEnvoy, Programmed, Progress
from xds.units.tables import Tables
from xds.units.traces import Asked, all_served, is_served, parts_of

if TYPE_CHECKING:
    from xds.replicas.peers import Peer

_AT_ONCE = 25
"""Objects that are looked at before others have their turn; fewer where many Envoys are late with something."""
_LATE_AT_ONCE = 10_000
"""Objects times such Envoys."""


class Effects:
    """Answers from one control plane.

    `streams` are those of its Fleet, `origin` says which version of an object there is by now, `others` how far the Envoys of other
    replicas are; while somebody holds `lock`, the tables change.
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
        """The version of the object where it comes from, whatever we have read; None where there is none, "" where nobody can say."""
        return await self._origin(asked.about)

    async def programmed(self, asked: Asked) -> Effect | None:
        """How far an object is as we have read it; None where there is no such object, or it is not ours."""
        peers = await self._others()
        async with self._lock:
            return self._look(asked, self._progress.envoys(self._streams()), peers)

    async def all_programmed(self, namespace: str = "") -> AsyncGenerator[Effect]:
        """Every object that is served, in one namespace or in all. Others have their turn in between."""
        peers = await self._others()
        async with self._lock:
            asked = [one for one in all_served(self._tables) if namespace in ("", one.about.namespace)]
        asked.reverse()
        while asked:
            async with self._lock:
                envoys = self._progress.envoys(self._streams())
                some = max(1, min(_AT_ONCE, _LATE_AT_ONCE // (len(envoys.late) + 1), len(asked)))
                found = [self._look(asked.pop(), envoys, peers) for _ in range(some)]
            for effect in found:
                if effect is not None:
                    yield effect
            await asyncio.sleep(0)

    def _look(self, asked: Asked, envoys: ConnectedEnvoys, peers: Iterable[Peer]) -> Effect | None:
        item = self._tables.world.get(tuple(asked.about))
        if item is None or not is_served(self._tables, asked):
            return None
        parts = parts_of(self._tables, asked)
        held = {part: self._tables.holds[part].words for part in parts if part in self._tables.holds}
        version = version_of(item)
        return Effect(asked, version, _of_all(self._progress.programmed(parts, envoys, held), peers, asked.about.kind, version))


def _of_all(found: Programmed, peers: Iterable[Peer], kind: str, version: str) -> Programmed:
    """With the Envoys of other replicas, of which it is not known what they are called. What is held here is held there, too."""
    if not version.isdecimal():
        return found
    held = any(placed.held is not None for placed in found.parts)
    envoys, lacking = found.envoys, list(found.lacking)
    for peer in peers:
        envoys += peer.envoys
        lacking += [LaggingEnvoy(f"one of {peer.replica}", ())] * (peer.envoys if held else peer.lacking(kind, int(version)))
    return replace(found, envoys=envoys, lacking=tuple(lacking))
