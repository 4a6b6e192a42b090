"""From a change of objects to the streams, and from the answers of the Envoys back to what is held: one thing after the other.

What belongs here: the order in which the World, the tables, the Snapshot, the streams and the quarantine hear of something, and which of it
is worked out in a thread. What does not: any decision of theirs, and where changes come from (`xds.app`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from xds import logs
from xds.certificates.pairs import Pair
from xds.kube.objects import ref
from xds.kube.source import Change
from xds.kube.world import Key, World
from xds.problem import Problem, printable
from xds.protocol.discovery import Acknowledgement
from xds.publish.notices import Notices
from xds.quarantine.blame import in_words
from xds.quarantine.blame import problems as blame
from xds.quarantine.ledger import Orders
from xds.quarantine.quarantine import Quarantine
from xds.server.fleet import Fleet
from xds.server.metrics import SHORT
from xds.server.progress import SHOWN, Cause, Verb
from xds.server.stream import Stream
from xds.snapshot import ROUTE, Part, Snapshot
from xds.units.kept import changes as kept_certificates
from xds.units.kept import restored
from xds.units.memo import Fault
from xds.units.parts import Held, Move
from xds.units.record import decode, encode
from xds.units.tables import Tables, Update

_log = logging.getLogger("xds")
_MANY = 200
"""Objects, keys or Parts beyond which they are worked out in a thread, so that streams are answered meanwhile (B10)."""
_HEAVY = 32_768
"""Bytes of virtual hosts, beyond which they are made again in a thread: some 20 ms of work."""
_FAR = frozenset(("ConfigMap", "IngressClass", "Namespace"))
"""Kinds of which one object may concern everything."""
_MOMENT = 0.1
"""Seconds that a rejection waits, where there are other Envoys: if one of them accepts the same meanwhile, nothing is held."""
_PLACE = "what Envoy refuses"


class Published(NamedTuple):
    """What was published: the names that changed, by type; the Parts that moved; the first of all causes; and the seconds that it took."""

    changed: Mapping[str, frozenset[str]]
    moved: Mapping[Part, Move]
    causes: Sequence[Cause]
    causes_total: int
    took: float


class Publisher:
    """Takes changes over, each wholly before the next.

    `published` hears of every Snapshot that differs, `judged` of all Problems whenever some have come or gone, `remember` of all that must
    outlive a restart (`xds.units.record`) whenever that has changed. The Fleet must tell `heard` of every answer and `gone` of every stream
    that has ended, and `judge` must be awaited somewhere.
    """

    def __init__(
        self,
        world: World,
        tables: Tables,
        snapshot: Snapshot,
        notices: Notices,
        *,
        published: Callable[[Published], None],
        judged: Callable[[list[Problem]], None],
        remember: Callable[[bytes], None],
    ) -> None:
        self.lock = asyncio.Lock()
        """While it is held, nothing of all this changes."""
        self.quarantine = Quarantine(tables, snapshot, _serves)
        self._world = world
        self._tables = tables
        self._snapshot = snapshot
        self._notices = notices
        self._published = published
        self._judged = judged
        self._remember = remember
        self._remembered = b""
        self._kept: dict[Key, Pair] = {}
        self._culprits: dict[Part, Held] = {}
        self._fleet: Fleet | None = None
        self._faults: set[Fault] = set()
        self._answers: deque[tuple[Acknowledgement | None, Stream]] = deque()
        self._answered = asyncio.Event()

    def serve(self, fleet: Fleet) -> None:
        """The streams that are woken from now on."""
        self._fleet = fleet

    async def take(self, change: Change) -> None:
        """One Change of the Source."""
        async with self.lock:
            begun = time.monotonic()
            causes = _causes(self._world, change)
            kept = kept_certificates(self._tables, change.put, change.drop)
            if len(change.put) + len(change.drop) > _MANY:
                keys = await asyncio.to_thread(self._world.apply, change.put, change.drop)
            else:
                keys = self._world.apply(change.put, change.drop)
            for key, pair in kept.items():
                keys |= self._keep(key, pair)
            for place, problems in change.problems.items():
                self._notices.hear(place, problems)
            await self._build(keys, causes, len(change.put) + len(change.drop), begun)

    async def tell(self, key: Key, value: Any) -> None:
        """What Units read besides objects: the time, the default certificate."""
        async with self.lock:
            await self._build(self._world.set_constant(key, value), (), 0, time.monotonic())

    async def recall(self, body: bytes) -> None:
        """What was remembered before a restart, or by another replica. Raises ValueError where it cannot be read."""
        found = decode(body)
        async with self.lock:
            kept = restored(self._tables, found.certificates)
            keys = {key for where in kept.keys() - self._kept.keys() for key in self._keep(where, kept[where])}
            await self._build(keys, (), 0, time.monotonic())
            await self._obey(self.quarantine.learn(found.held, found.good))
            self._tell_remembered()

    def heard(self, stream: Stream, answer: Acknowledgement) -> None:
        """An Envoy has answered."""
        if answer.error is not None and self._others(stream, answer.type_url):
            asyncio.get_running_loop().call_later(_MOMENT, self._hear, answer, stream)
        elif answer.error is not None or self.quarantine.cares(answer):
            self._hear(answer, stream)

    def gone(self, stream: Stream) -> None:
        """An Envoy has left."""
        if self.quarantine.knows(stream):
            self._hear(None, stream)

    async def judge(self) -> None:
        """Draws conclusions from what the Envoys answer, until cancelled."""
        while True:
            await self._answered.wait()
            self._answered.clear()
            async with self.lock:
                while self._answers:
                    answer, stream = self._answers.popleft()
                    try:
                        await self._obey(self._judge(answer, stream))
                    except Exception:  # noqa: BLE001 - whatever an Envoy says, changes go on being published
                        _log.exception("internal error in the quarantine; please report it")

    def _hear(self, answer: Acknowledgement | None, stream: Stream) -> None:
        self._answers.append((answer, stream))
        self._answered.set()

    def _judge(self, answer: Acknowledgement | None, stream: Stream) -> Orders:
        if answer is None:
            return self.quarantine.left(stream)
        if answer.error is None:
            return self.quarantine.accepted(answer, stream)
        return self.quarantine.rejected(answer, stream)

    def _others(self, stream: Stream, type_url: str) -> bool:
        """Whether somebody else may accept what this stream has rejected."""
        assert self._fleet is not None
        return any(other is not stream and type_url in other.session.summaries for other in self._fleet.connected())

    async def _build(self, keys: Collection[Key], causes: Sequence[Cause], total: int, begun: float) -> None:
        update = await self._worked_out(keys)
        orders = self._publish(update, begun, causes, total)
        moved = self._tables.build.problem_changes()
        self._notices.tell(moved)
        self._log_faults()
        await self._obey(orders)
        self._tell_culprits(told=bool(moved))

    async def _worked_out(self, keys: Collection[Key]) -> Update:
        """What changed keys come to. A little is worked out at once, which is quickest; more in a thread, for the loop to go on."""
        if len(keys) > _MANY or any(key[0] in _FAR for key in keys):
            return await asyncio.to_thread(self._tables.apply, keys)
        touched = self._tables.touch(keys)
        if touched.weight > _HEAVY:
            return await asyncio.to_thread(self._tables.refresh, touched)
        return self._tables.refresh(touched)

    async def _obey(self, orders: Orders) -> None:
        """Carries out orders of the quarantine, and those that follow from them."""
        if not orders:
            return
        while orders:
            begun = time.monotonic()
            update = await asyncio.to_thread(self._tables.hold, orders) if len(orders) > _MANY else self._tables.hold(orders)
            orders = self._publish(update, begun, ordered=orders.keys())
        self._tell_culprits()

    def _keep(self, key: Key, pair: Pair | None) -> set[Key]:
        """A certificate is kept from now on, or (None) no longer; returns the keys of the World that this touches."""
        if pair is None:
            self._kept.pop(key, None)
        else:
            self._kept[key] = pair
        return self._world.set_constant(key, pair)

    def _publish(
        self, update: Update, begun: float, causes: Sequence[Cause] = (), total: int = 0, ordered: Collection[Part] = ()
    ) -> Orders:
        changed = update.publish(self._snapshot)
        if changed:
            if self._fleet is not None:
                self._fleet.publish()
            took = time.monotonic() - begun
            self._published(Published(changed, update.moved, causes, total, took))
            _log.info("%s (%.1f ms)", _counted(changed), took * 1000, extra=logs.of_resources(changed, SHORT, took))
        named = [cause.about for cause in causes] if total <= SHOWN else ()
        return self.quarantine.published(update.moved, named, ordered)

    @property
    def culprits(self) -> Mapping[Part, Held]:
        """What stays held because Envoy refuses it, as far as it has been told: never in the middle of a change."""
        return self._culprits

    def problems(self) -> list[Problem]:
        """All Problems of objects that there are now, in the order of object and field."""
        found = dict.fromkeys((*self._tables.problems(), *self._notices.at(_PLACE)))
        return sorted(found, key=lambda p: (p.about, p.field, p.code))

    def _tell_culprits(self, *, told: bool = False) -> None:
        """Says who is held, if that has changed; `told`: other Problems have."""
        culprits = self.quarantine.culprits
        if culprits != self._culprits:
            found = blame(self._tables, culprits)
            for part in culprits.keys() - self._culprits.keys():
                if not found[part]:
                    _log.error(
                        "Envoy refuses the %s, which no object is to blame for: %s", in_words(part), printable(culprits[part].words, 500)
                    )
            self._culprits = culprits
            self._notices.hear(_PLACE, tuple(problem for problems in found.values() for problem in problems))
            told = True
        if told:
            self._judged(self.problems())
        self._tell_remembered()

    def _tell_remembered(self) -> None:
        """Says what is to outlive a restart, if that has changed."""
        culprits, good = self.quarantine.remembered, self.quarantine.good
        if not (culprits or good or self._kept or self._remembered):
            return
        certificates = {f"{key[1]}/{key[2]}": (pair.chain, pair.key) for key, pair in self._kept.items()}
        body = encode(culprits, good, certificates)
        if body != self._remembered:
            self._remembered = body
            self._remember(body)

    def _log_faults(self) -> None:
        faults = set(self._tables.build.faults.values())
        for fault in faults - self._faults:
            name, arguments = fault.unit.function.__name__, fault.unit.arguments
            _log.error("internal error in %s%r; please report it", name, arguments, extra={"traceback": fault.traceback})
        self._faults = faults


def _causes(world: World, change: Change) -> list[Cause]:
    """The first objects of a Change, before the World has taken it over."""
    put = (Cause(ref(i), i.meta.version, Verb.CHANGED if world.get(tuple(ref(i))) else Verb.ADDED) for i in change.put[:SHOWN])
    return [*put, *(Cause(which, "", Verb.REMOVED) for which in change.drop[:SHOWN])][:SHOWN]


def _serves(stream: Stream) -> bool:
    """Whether an Envoy has accepted routes: it may lose something."""
    return stream.session.accepted_all(ROUTE) >= 0


def _counted(changed: Mapping[str, frozenset[str]]) -> str:
    """What was published, such as "2 Cluster, 1 RouteConfiguration"."""
    return ", ".join(f"{len(names)} {type_url.rsplit('.', 1)[1]}" for type_url, names in changed.items())
