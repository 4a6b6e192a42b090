"""A Publisher wired as `xds.app` does it, with Envoys that are Sessions, and a coordination that notes what it is given."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry

from tests.web.site import SETTINGS
from xds.alone import Alone
from xds.config import Flags
from xds.kube.objects import Object
from xds.kube.source import Change
from xds.kube.world import World
from xds.problem import Problem, Ref
from xds.protocol.discovery import DiscoveryRequest, DiscoveryResponse, Wire
from xds.protocol.session import Session
from xds.publish.answers import Answers, serves
from xds.publish.notices import Notices
from xds.publish.publisher import Observers, Publisher
from xds.quarantine.quarantine import Quarantine
from xds.server.messages import EnvoyNode
from xds.server.metrics import SHORT
from xds.server.progress import Progress
from xds.snapshot import TYPES, Snapshot
from xds.units.tables import Tables
from xds.web.process_metrics import ProcessMetrics

Refuses = Callable[[str, bytes], bool]
"""Whether an Envoy rejects a response of this type that has a resource with these bytes."""


class Envoy:
    """A stream whose Envoy asks for everything, and answers when it is told to."""

    def __init__(self, snapshot: Snapshot, answers: Answers, name: str) -> None:
        self.node = EnvoyNode(name)
        self.session = Session(Wire.DELTA, snapshot, nonce_prefix=f"{name}.")
        self.refuses: Refuses = lambda _, __: False
        self._answers = answers
        self._inbox: deque[DiscoveryResponse] = deque()
        for type_url in TYPES:
            self._inbox.extend(self.session.receive(DiscoveryRequest(type_url, subscribe=("*",)), 0.0))

    def answer(self) -> bool:
        """Takes in all that there is for it now, and answers each response. Returns whether there was any."""
        self._inbox.extend(self.session.publish(0.0))
        had_something = bool(self._inbox)
        while self._inbox:
            response = self._inbox.popleft()
            refused = any(self.refuses(response.type_url, bytes(resource.body)) for resource in response.resources)
            self._inbox.extend(self.session.receive(DiscoveryRequest(response.type_url, response.nonce, "no" if refused else None), 0.0))
        for answer in self.session.take_acknowledgements():
            self._answers.received(self, answer)  # type: ignore[arg-type]
        return had_something


class Streams:
    """Those of `envoys`; those in `prompt` answer within `publish`, which is earlier than any real one can."""

    def __init__(self) -> None:
        self.envoys: list[Envoy] = []
        self.prompt: list[Envoy] = []

    def publish(self) -> None:
        for envoy in self.prompt:
            envoy.answer()

    def connected(self) -> Sequence[Any]:
        return self.envoys


class Noted(Alone):
    """Notes what it is given, and runs `look` each time."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []
        self.reports: list[Sequence[Problem]] = []
        self.saved: list[bytes] = []
        self.look: Callable[[], None] = lambda: None

    def forget(self) -> None:
        for noted in (self.changes, self.reports, self.saved):
            noted.clear()  # type: ignore[attr-defined]

    def published(self, change: Change) -> None:
        self.look()
        self.changes.append(change)

    def problems(self, problems: Sequence[Problem]) -> None:
        self.look()
        self.reports.append(problems)

    def save(self, record: bytes) -> None:
        self.look()
        self.saved.append(record)


class Wired:
    """The Publisher and what it is made of. Nothing is judged but in `settle`."""

    def __init__(self, flags: Flags = SETTINGS) -> None:
        registry = CollectorRegistry()
        self.world = World(flags, {})
        self.tables = Tables(self.world)
        self.snapshot = Snapshot()
        self.snapshot.ready = True
        metrics = ProcessMetrics(registry, self.world, self.snapshot, types=SHORT, staleness=lambda _: {})
        self.progress = Progress(self.snapshot, registry)
        self.quarantine = Quarantine(self.tables, self.snapshot, serves)
        self.answers = Answers(self.progress, self.quarantine)
        self.streams = Streams()
        self.coordination = Noted()
        observers = Observers(metrics, self.progress, self.streams, Notices(metrics.problems), self.coordination)
        self.publisher = Publisher(self.world, self.tables, self.snapshot, self.quarantine, self.answers, observers)

    def connect(self, name: str = "envoy-1", *, prompt: bool = False) -> Envoy:
        envoy = Envoy(self.snapshot, self.answers, name)
        self.streams.envoys.append(envoy)
        if prompt:
            self.streams.prompt.append(envoy)
        return envoy

    def leave(self, envoy: Envoy) -> None:
        self.streams.envoys.remove(envoy)
        self.answers.disconnected(envoy)  # type: ignore[arg-type]

    async def put(self, *objects: Object, drop: Sequence[Ref] = ()) -> None:
        await self.publisher.apply(Change(tuple(objects), tuple(drop)))

    async def settle(self) -> None:
        """Envoys answer and their answers are judged, until there is nothing more to answer."""
        judging = asyncio.create_task(self.publisher.judge())
        async with asyncio.timeout(120):
            while sum(envoy.answer() for envoy in self.streams.envoys) or self.answers or self.quarantine.searching:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):  # a search goes on only when Envoys answer again
                        await self.publisher.settled()
        judging.cancel()
