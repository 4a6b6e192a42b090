"""From a change of objects to the streams, and from the answers of Envoys back to what is held: one step wholly before the next.

A step, in its order. Nothing awaits between 2 and 4, so no stream sends or receives anything in between. What takes long is done in a
thread, and the event loop goes on.

1. The World takes the objects over; the tables build anew what reads them, in a thread where that may take long.
2. The Snapshot takes the Update over. From the next await on, streams may send it.
3. Metrics and Progress note the publication. If an Envoy acknowledged it earlier, Progress would wait for that for ever.
4. The streams are woken; then the publication is logged.
5. The quarantine notes what is unproven, and returns orders; of many Parts, in a thread. All answers that come from 2 on are queued, even
   if the quarantine does not care for them yet, and are judged after this step. Otherwise what an Envoy has acknowledged would stay
   unproven.
6. The orders of the quarantine are carried out. Each makes an Update that goes through 2 to 5, and may return further orders. Nothing
   awaits between 5 and this, but for many Parts: what is known to be bad is sent to no Envoy.
7. Problems of Units that have appeared or disappeared are counted and logged, and so are faults of ours.
8. What is held now becomes Problems, and the coordination gets all Problems. After 6: no Event is about what is held for an instant.
9. The coordination saves what is to be held after a restart. After 6, for the same reason.
10. The coordination notes that the Change is published. Last: it counts our Envoys as up to date with these versions of the objects as
    soon as they have acknowledged the Snapshot of this moment.

What does not belong here: any decision of those who are called, and where Changes come from (`xds.app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from xds import logs
from xds.coordination import Coordination
from xds.kube.objects import ref
from xds.kube.source import Change
from xds.kube.world import Key, World
from xds.machine.process import in_thread
from xds.problem import Problem, Ref, printable
from xds.publish.answers import Answers, Received
from xds.publish.checkpoint import Checkpoint
from xds.publish.notices import Notices, in_order
from xds.quarantine.blame import in_words
from xds.quarantine.blame import problems as blame
from xds.quarantine.ledger import Orders
from xds.quarantine.quarantine import Quarantine
from xds.server.metrics import SHORT
from xds.server.progress import SHOWN, Cause, Progress, Verb
from xds.server.stream import EnvoyStream
from xds.snapshot import SECRET, Part, Snapshot, StateChange
from xds.units.kept import Forms, forms, restored, restored_forms
from xds.units.kept import changes as kept_certificates
from xds.units.memo import Fault, Recorder
from xds.units.parts import Held, digest
from xds.units.record import decode
from xds.units.tables import Tables, Update
from xds.web.process_metrics import ProcessMetrics

_log = logging.getLogger("xds")
_MANY = 200
"""Objects, keys or Parts beyond which they are worked out in a thread, so that streams are answered meanwhile (B10)."""
_HEAVY = 32_768
"""Bytes of virtual hosts beyond which they are built in a thread: some 20 ms of work."""
_FAR = frozenset(("ConfigMap", "IngressClass", "Namespace"))
"""Kinds of which one object may concern everything."""
_MOMENT = 0.1
"""Seconds that a NACK waits where there are other Envoys: if one of them acknowledges the same meanwhile, nothing is held."""
_PLACE = "what Envoy rejects"


class ConnectedStreams(Protocol):
    """The streams of connected Envoys; a `xds.server.fleet.Fleet` has them."""

    def publish(self) -> None:
        """Wake all of them: the Snapshot has changed."""

    def connected(self) -> Sequence[EnvoyStream]:
        """Those whose Envoy has sent its node."""


@dataclass(frozen=True)
class Observers:
    """All that are notified of a publication. The head of this module has the order, and its reasons."""

    metrics: ProcessMetrics
    progress: Progress
    streams: ConnectedStreams
    notices: Notices
    coordination: Coordination


class Causes(NamedTuple):
    """Because of which objects something is published: the `first` SHOWN of `total`."""

    first: Sequence[Cause]
    total: int


NO_CAUSES = Causes((), 0)


class Publisher:
    """Publishes Changes, and acts on the `answers` of Envoys for as long as `judge` is awaited."""

    def __init__(
        self, world: World, tables: Tables, snapshot: Snapshot, quarantine: Quarantine, answers: Answers, observers: Observers
    ) -> None:
        self.lock = asyncio.Lock()
        """While it is held, no step is under way: World, tables, Snapshot and what is held agree with each other."""
        self._stepped = asyncio.Condition(self.lock)
        self._world = world
        self._tables = tables
        self._snapshot = snapshot
        self._quarantine = quarantine
        self._answers = answers
        self._observers = observers
        self._checkpoint = Checkpoint(tables, quarantine, observers.coordination)
        self.steps = 0
        """How many steps there were. Nothing that is asked with `lock` changes while this number stays."""
        self._held: dict[Part, Held] = {}
        self._faults: set[Fault] = set()

    async def apply(self, change: Change) -> None:
        """Publish a Change of the Source."""
        async with self._step():
            begun = time.monotonic()
            causes = _causes(self._world, change)  # asks what there was before
            if causes.total > _MANY:
                keys = await in_thread(self._take_over, change)
            else:
                keys = self._take_over(change)
            for place, problems in change.problems.items():
                self._observers.notices.replace(place, problems)
            await self._build(keys, begun, causes)
            self._observers.coordination.published(change)

    def _take_over(self, change: Change) -> set[Key]:
        """The World takes the objects over, or what stays in place of them. Returns the keys that this touches."""
        kept = kept_certificates(self._tables, change.put, change.drop)  # asks what there was before, as the next one does
        keys = self._hold_forms(forms(self._tables, change.put, change.drop), change.drop)
        return keys | self._checkpoint.keep(kept)

    def _hold_forms(self, found: Forms, drop: Sequence[Ref] = ()) -> set[Key]:
        keys = self._world.apply(found.put, drop)
        return keys.union(*(self._world.set_constant(key, edit) for key, edit in found.edits.items()))

    async def set(self, key: Key, value: Any) -> None:
        """Publish what Units read beside objects: the time, the default certificate."""
        async with self._step():
            await self._build(self._world.set_constant(key, value), time.monotonic())

    async def learn(self, record: bytes) -> None:
        """Hold what was held before a restart, or what another replica holds. Raises ValueError for what is no record."""
        found = decode(record)
        async with self._step():
            keys = self._checkpoint.restore(restored(self._tables, found.certificates))
            await self._build(keys | self._hold_forms(restored_forms(self._tables, found.forms)), time.monotonic())
            await self._carry_out(self._quarantine.learn(found.held, found.good))
            await self._announce_holds()

    async def judge(self) -> None:
        """Act on what the Envoys answer, until cancelled."""
        while True:
            await self._answers.available()
            async with self._step():
                while (received := self._answers.pop()) is not None:
                    try:
                        await self._act_on(received)
                    except Exception:  # noqa: BLE001 - no answer of an Envoy may stop publishing
                        _log.exception("internal error in the quarantine; please report it")

    async def settled(self) -> None:
        """Wait until no step is under way, every answer of an Envoy has been judged, and no culprit is searched for."""
        async with self._stepped:
            await self._stepped.wait_for(lambda: not (self._answers or self._quarantine.searching))

    @property
    def held(self) -> Mapping[Part, Held]:
        """What is held because Envoy rejects it, as of the last step; without what is held only while a culprit is searched for."""
        return self._held

    def problems(self) -> list[Problem]:
        """All Problems of objects that there are now, in the order of object and field. Ask with `lock`."""
        found = dict.fromkeys((*self._tables.problems(), *self._observers.notices.at(_PLACE)))
        return sorted(found, key=lambda p: (p.about, p.field, p.code))

    def all_problems(self) -> list[Problem]:
        """Those of files, of kinds that are forbidden and of other places as well. Ask with `lock`."""
        return list(dict.fromkeys((*self.problems(), *self._observers.notices.of_places())))

    @contextlib.asynccontextmanager
    async def _step(self) -> AsyncGenerator[None]:
        async with self._stepped:
            try:
                yield
            except asyncio.CancelledError:  # the process ends, and would wait for what a thread still works out
                self._tables.build.abandon()
                raise
            finally:
                self.steps += 1
                self._stepped.notify_all()

    async def _build(self, keys: Collection[Key], begun: float, causes: Causes = NO_CAUSES) -> None:
        """Steps 1 to 9 for keys of the World that were touched."""
        await self._carry_out(await self._publish(await self._update(keys), begun, causes))
        changes = self._tables.build.problem_changes()
        ordered = await in_thread(in_order, changes) if len(changes) > _MANY else in_order(changes)
        for _ in self._observers.notices.updating(ordered):
            await asyncio.sleep(0)
        self._log_faults()
        await self._announce_holds(changed=bool(changes))

    async def _update(self, keys: Collection[Key]) -> Update:
        """The Update that follows from changed keys: a small one at once, which is quickest; a large one in a thread, beside the loop."""
        if len(keys) > _MANY or any(key[0] in _FAR for key in keys):
            return await in_thread(self._tables.apply, keys)
        touched = self._tables.touch(keys)  # one small object may concern a large virtual host
        if touched.weight > _HEAVY:
            return await in_thread(self._tables.refresh, touched)
        return self._tables.refresh(touched)

    async def _publish(self, update: Update, begun: float, causes: Causes = NO_CAUSES, ordered: Collection[Part] = ()) -> Orders:
        """Steps 2 to 5. `ordered` are the Parts of orders that this Update carries out."""
        many = len(update.moved)
        prepared = await in_thread(_prepared, update, self._snapshot) if many > _MANY else _prepared(update, self._snapshot)
        named = [cause.about for cause in causes.first] if causes.total <= SHOWN else ()
        with self._answers.keeping_all():
            self._expose(prepared, begun, causes)
            return await self._conclude(many, partial(self._quarantine.published, update.moved, named, ordered))

    def _expose(self, prepared: _Prepared, begun: float, causes: Causes) -> None:
        """Steps 2 to 4, in which nothing may await."""
        changed = self._snapshot.take(prepared.differences)
        took = time.monotonic() - begun
        if changed:
            self._note(changed, prepared, causes, took)
            self._observers.streams.publish()
            _log.info("%s (%.1f ms)", _counted(changed), took * 1000, extra=logs.of_resources(changed, SHORT, took))

    async def _conclude(self, amount: int, conclude: Callable[[], Orders]) -> Orders:
        """What the quarantine concludes, of much in a thread: whatever an Envoy answers meanwhile may be about just that."""
        if amount <= _MANY:
            return conclude()
        with self._answers.keeping_all():
            return await in_thread(conclude)

    def _note(self, changed: Mapping[str, frozenset[str]], prepared: _Prepared, causes: Causes, took: float) -> None:
        """Step 3. `took` is the seconds from the Change to the Snapshot."""
        metrics, progress = self._observers.metrics, self._observers.progress
        metrics.built.observe(took)
        metrics.certificates.take(changed.get(SECRET, ()), self._snapshot[SECRET], Recorder(self._tables.build))
        progress.published(
            causes.first,
            changed,
            {type_url: self._snapshot[type_url].generation for type_url in changed},
            took,
            time.monotonic(),
            datetime.now(UTC),
            causes_total=causes.total,
            moved=prepared.pieces,
        )

    async def _act_on(self, received: Received) -> None:
        stream, answer, postponed = received
        if answer is None:
            orders = self._quarantine.left(stream)
        elif answer.error is None and not self._quarantine.cares(answer):
            return  # it was kept in case; after a large publication that is one of each stream and type
        elif answer.error is not None and not postponed and self._others(stream, answer.type_url):
            self._answers.postpone(received, _MOMENT)
            return
        else:
            judge = self._quarantine.accepted if answer.error is None else self._quarantine.rejected
            orders = await self._conclude(self._quarantine.weight(answer.type_url), partial(judge, answer, stream))
        if orders:
            await self._carry_out(orders)
            await self._announce_holds()

    def _others(self, stream: EnvoyStream, type_url: str) -> bool:
        """Whether another Envoy may acknowledge what this stream has rejected."""
        return any(other is not stream and type_url in other.session.summaries for other in self._observers.streams.connected())

    async def _carry_out(self, orders: Orders) -> None:
        """Step 6: these orders of the quarantine, and those that follow from them."""
        while orders:
            begun = time.monotonic()
            update = await in_thread(self._tables.hold, orders) if len(orders) > _MANY else self._tables.hold(orders)
            orders = await self._publish(update, begun, ordered=orders.keys())

    async def _announce_holds(self, *, changed: bool = False) -> None:
        """Steps 8 and 9. `changed`: Problems of Units have changed as well."""
        held = self._quarantine.culprits
        if held != self._held:
            found = blame(self._tables, held)
            for part in held.keys() - self._held.keys():
                if not found[part]:
                    words = printable(held[part].words, 500)
                    _log.error("Envoy rejects the %s, which comes from no object: %s", in_words(part), words)
            self._held = held
            self._observers.notices.replace(_PLACE, tuple(problem for problems in found.values() for problem in problems))
            changed = True
        if changed:
            many = len(self._tables.build.problems) > _MANY
            self._observers.coordination.problems(await in_thread(self.problems) if many else self.problems())
        self._checkpoint.save()

    def _log_faults(self) -> None:
        faults = set(self._tables.build.faults.values())
        for fault in faults - self._faults:
            name, arguments = fault.unit.function.__name__, fault.unit.arguments
            _log.error("internal error in %s%r; please report it", name, arguments, extra={"traceback": fault.traceback})
        self._faults = faults


class _Prepared(NamedTuple):
    """What publishing an Update changes: what differs in the Snapshot, and the pieces of resources that moved, with their digests."""

    differences: Mapping[str, StateChange]
    pieces: Sequence[tuple[Part, str]]


def _prepared(update: Update, snapshot: Snapshot) -> _Prepared:
    pieces = [(part, digest(move.new)) for part, move in update.moved.items() if part.piece is not None]
    return _Prepared(update.differences(snapshot), pieces)


def _causes(world: World, change: Change) -> Causes:
    """Of a Change, before the World has taken it over."""
    put = (Cause(ref(i), i.meta.version, Verb.CHANGED if world.get(tuple(ref(i))) else Verb.ADDED) for i in change.put[:SHOWN])
    first = [*put, *(Cause(which, "", Verb.REMOVED) for which in change.drop[:SHOWN])][:SHOWN]
    return Causes(first, len(change.put) + len(change.drop))


def _counted(changed: Mapping[str, frozenset[str]]) -> str:
    """What was published, such as "2 Cluster, 1 RouteConfiguration"."""
    return ", ".join(f"{len(names)} {type_url.rsplit('.', 1)[1]}" for type_url, names in changed.items())
