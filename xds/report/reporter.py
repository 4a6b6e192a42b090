"""Writes the addresses of Ingresses and Events about them, while this replica leads.

What belongs here: what happens when, and in which order. What does not: the decisions (`addresses`, `events`) and the requests (`lookup`,
`status_writer`, `event_writer`), and the election (`xds.replicas`).

Only the leader writes; with `--disable-leader-election`, every replica does. No status is cleared because its addresses are unknown, nor on
shutdown. With `--update-status-on-shutdown=true`, the last replica clears as many as it can in a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from xds.config import Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.faults import TRANSIENT, ChangedProblems, ProblemSink, WritePauses, forbidden, sentence_of
from xds.kube.apiserver.writes import ApiError
from xds.kube.objects import Ingress, Service, ref
from xds.kube.source import Change
from xds.kube.world import Reader, World
from xds.problem import Problem, Ref
from xds.replicas.election import Election
from xds.report.envoy_nodes import EnvoyNodes
from xds.report.event_writer import EventWriter, wait
from xds.report.lookup import NoAddresses, are_of_nodes, is_last, published
from xds.report.status_addresses import Addresses
from xds.report.status_writer import StatusWriter
from xds.translate.selection import claimed, served

_log = logging.getLogger("xds")
_LAST_WORDS = 8.0
"""Seconds that clearing may take at the end."""
_SELECTING = frozenset({"IngressClass", "Namespace"})
"""Kinds that decide which Ingresses are of our class."""
_TURN = 200
"""Ingresses that are checked before the event loop may run something else."""


class Reporter:
    """Writes from `start` to `stop`. `identity` is the name of this process in the Lease; no other process may have it. `read` is asked
    which Ingresses are ours.

    `report` takes the Problems of writing itself, such as a verb that the role lacks. `api` must be open from before `start` until after
    `stop`.
    """

    def __init__(
        self,
        settings: Flags,
        world: World,
        read: Reader,
        api: Api,
        identity: str,
        report: ProblemSink,
        pauses: WritePauses | None = None,
    ) -> None:
        self._settings = settings
        self._world = world
        self._read = read
        self._api = api
        self._identity = identity
        self._report = report
        self._pauses = pauses or WritePauses()
        self._running: asyncio.Task[None] | None = None
        self._problems: Iterable[Problem] = ()
        self._term: _Term | None = None

    @property
    def is_leading(self) -> bool:
        """Whether this replica writes now."""
        return self._term is not None

    def start(self) -> None:
        """Once the World is complete: stand for election, and write while elected."""
        self._running = asyncio.create_task(self._run(), name="report")

    def changed(self, change: Change) -> None:
        """The World has applied a Change."""
        if self._term is not None:
            self._term.changed(change)

    def judged(self, problems: Iterable[Problem]) -> None:
        """After a publication: all present Problems. They are read later, so the iterable must not change."""
        self._problems = problems
        if self._term is not None:
            self._term.events.judged(problems)

    async def stop(self) -> None:
        """Clear statuses if the flag asks for it, release the Lease, and end."""
        if self._running is None:
            return
        if self._term is not None and self._settings.update_status and self._settings.update_status_on_shutdown:
            await self._term.clear()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._running = None

    async def _run(self) -> None:
        s = self._settings
        if s.disable_leader_election:
            await self._lead()
        else:
            await Election(self._api, s.pod_namespace, s.election_id, self._identity, s.election_ttl, ChangedProblems(self._report)).run(
                self._lead
            )

    async def _lead(self) -> None:
        """A term as the leader, until cancelled."""
        report = ChangedProblems(self._report)
        while True:
            self._term = _Term(self._settings, self._world, self._read, self._api, report, self._pauses)
            self._term.events.judged(self._problems)
            try:
                await self._term.run()
            except* Exception as faults:  # noqa: BLE001 - a term starts again after any exception
                _log.error("internal error while status and Events were written; please report it", exc_info=faults)
            finally:
                self._term = None
                report.withdraw()
            await asyncio.sleep(self._pauses.restart)


class _Term:
    """The state of a leader while it leads."""

    def __init__(self, settings: Flags, world: World, read: Reader, api: Api, report: ProblemSink, pauses: WritePauses) -> None:
        self.events = EventWriter(api, self._claimed, settings.pod_name, report, pauses)
        self._settings = settings
        self._world = world
        self._read = read
        self._api = api
        self._report = report
        self._pauses = pauses
        self._statuses = StatusWriter(api, self._served, report, pauses)
        self._ours: dict[Ref, str] = {}  # the Ingresses of our class, and their uids
        self._published = Ref("Service", *settings.publish_service.split("/", 1)) if settings.publish_service else None
        self._is_due = asyncio.Event()
        self._nodes = EnvoyNodes(api, settings, self._is_due.set, report) if settings.update_status and are_of_nodes(settings) else None
        self._ends = False

    async def run(self) -> None:
        for number, which in enumerate(self._all()):
            found = self._served(which)
            if found is not None:
                self._take_over(found, is_new=not found.addresses)
            if number % _TURN == 0:
                await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            if self._settings.update_status:
                group.create_task(self._statuses.run())
                group.create_task(self._publish())
            if self._nodes is not None:
                group.create_task(self._nodes.run())

    def changed(self, change: Change) -> None:
        """Queue what may have changed, or may have changed its class."""
        others = {ref(item) for item in change.put}.union(change.drop)
        if self._published in others:
            self._is_due.set()
        for gone in change.drop:
            if gone.kind == "Ingress":
                self._ours.pop(gone, None)
                self.events.gone(gone)
        which = (
            self._all()
            if any(each.kind in _SELECTING for each in others)
            else [ref(item) for item in change.put if isinstance(item, Ingress)]
        )
        if which:
            self._reconsider(which)

    async def clear(self) -> None:
        """Empty every status, unless another replica runs."""
        self._ends = True
        try:
            async with asyncio.timeout(_LAST_WORDS):
                if await is_last(self._api, self._settings):
                    self._write(())
                    await self._statuses.settled()
        except ApiError as error:
            _log.warning("%s", _not_cleared(error, self._settings.pod_namespace))
        except TRANSIENT as error:
            _log.warning("not every status was cleared: %s", sentence_of(self._api, error))

    def _all(self) -> list[Ref]:
        return [ref(item) for item in self._world.objects(Ingress)]

    def _served(self, which: Ref) -> Ingress | None:
        """An Ingress whose status this control plane writes."""
        found: Ingress | None = self._world.get(tuple(which))
        return found if found is not None and served(self._read, which.namespace, which.name) else None

    def _claimed(self, which: Ref) -> Ingress | None:
        """An Ingress whose Events this control plane writes."""
        found: Ingress | None = self._world.get(tuple(which))
        return found if found is not None and claimed(self._read, which.namespace, which.name) else None

    def _reconsider(self, which: Sequence[Ref]) -> None:
        if self._settings.update_status:
            self._statuses.look(which)
        for each in which:
            found = self._served(each)
            if found is None:
                self._ours.pop(each, None)
            elif self._ours.get(each) != found.uid:
                self._take_over(found, is_new=True)
        self.events.changed(which)

    def _take_over(self, found: Ingress, *, is_new: bool) -> None:
        """An Ingress is of our class now. One that has addresses at the start of a term has had its Event already."""
        self._ours[ref(found)] = found.uid
        if is_new and found.uid and not self._settings.disable_sync_events:
            self.events.taken_over(ref(found), found.uid)

    async def _publish(self) -> None:
        """Look the addresses up when their sources change, and periodically. Write them to every Ingress."""
        while True:
            self._is_due.clear()
            try:
                wanted = published(self._settings, self._service, self._nodes)
            except NoAddresses as unknown:
                self._report("status addresses", (unknown.problem,))
            else:
                self._report("status addresses", ())
                if wanted is not None and not self._ends:
                    self._write(wanted)
            await wait(self._is_due, self._settings.status_update_interval)
            await asyncio.sleep(self._pauses.debounce)

    def _write(self, wanted: Addresses) -> None:
        if wanted == self._statuses.wanted:
            self._statuses.look_again()
        else:
            self._statuses.wanted = wanted
            self._statuses.look(self._all())

    def _service(self, which: Ref) -> Service | None:
        found: Service | None = self._world.get(tuple(which))
        return found


def _not_cleared(error: ApiError, namespace: str) -> str:
    if error.status != 403:
        return f"Not every status was cleared: {error}"
    without = "whether this is the last replica is not known, so no status is cleared"
    return str(forbidden("list", "pods", Ref("Namespace", "", namespace), without))
