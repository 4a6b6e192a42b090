"""A debug server whose Subject has a real Fleet, a real Snapshot and real Progress; the rest says what a test wants it to say."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tests.server.client import Client
from xds.debug.server import SERVICES, DebugServer
from xds.debug.subject import Effect, Envoy, Explained, InvalidArgument, Replica
from xds.problem import Problem
from xds.protocol.discovery import Wire
from xds.server.fleet import Fleet
from xds.server.progress import Cause, Progress, Publication
from xds.server.server import Server
from xds.snapshot import Resource, Snapshot
from xds.units.traces import Asked


class Scripted:
    """A Subject (see above). `put` publishes; the attributes are what the methods of the same names answer."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.snapshot = Snapshot()
        self.progress = Progress(self.snapshot, registry)
        self.fleet = Fleet(
            self.snapshot, registry, identifier="xds-0", on_acknowledgement=lambda s, a: self.progress.acknowledged(s, a, time.monotonic())
        )
        self.waiting: tuple[str, ...] = ()
        self.staleness: Mapping[str, float] = {}
        self.found: list[Problem] = []
        self.explained: Explained | None = None
        self.effects: dict[Asked, Effect] = {}
        self.versions: dict[Asked, str] = {}

    def put(self, type_url: str, *resources: Resource, drop: Iterable[str] = (), causes: Sequence[Cause] = ()) -> None:
        changed = self.snapshot[type_url].update(resources, drop)
        self.snapshot.ready = True
        self.fleet.publish()
        generations = {type_url: self.snapshot[type_url].generation}
        self.progress.published(causes, {type_url: changed}, generations, 0.001, time.monotonic(), datetime.now(UTC))

    @property
    def ready(self) -> asyncio.Event:
        return self.fleet.ready

    def replica(self) -> Replica:
        return Replica("xds-0", "1.2.3", self.waiting, self.staleness)

    def envoys(self) -> Sequence[Envoy]:
        return self.fleet.connected()

    def history(self) -> Sequence[Publication]:
        return self.progress.history()

    def times(self, type_url: str) -> Mapping[int, datetime]:
        return self.progress.times(type_url)

    async def problems(self) -> Sequence[Problem]:
        return self.found

    async def explain(self, url: str, method: str) -> Explained:
        if self.explained is None:
            raise InvalidArgument(f"{method} {url!r} is no URL.")
        return self.explained

    async def current(self, asked: Asked) -> str | None:
        return self.versions.get(asked, "")

    async def programmed(self, asked: Asked) -> Effect | None:
        return self.effects.get(asked)

    async def all_programmed(self, namespace: str) -> AsyncIterator[Effect]:
        for asked, effect in self.effects.items():
            if namespace in ("", asked.about.namespace):
                yield effect


@dataclasses.dataclass(frozen=True)
class Caller:
    """Calls the methods of a debug server with messages, or with bytes."""

    channel: grpc.aio.Channel

    async def __call__(self, method: str, request: Any) -> Any:
        """A unary call: `Debug/Fleet`, by the end of its service's name."""
        service, name = _find(method)
        found = SERVICES[service][name]
        raw = await self.channel.unary_unary(f"/{service}/{name}")(request if isinstance(request, bytes) else bytes(request))
        return found.response.parse(raw)

    def stream(self, method: str, *requests: Any) -> Any:
        """A call whose answers are read one by one, as bytes."""
        service, name = _find(method)
        if SERVICES[service][name].client_streams:
            return self.channel.stream_stream(f"/{service}/{name}")(iter([bytes(request) for request in requests]))
        return self.channel.unary_stream(f"/{service}/{name}")(bytes(requests[0]))


def _find(method: str) -> tuple[str, str]:
    end, _, name = method.partition("/")
    return next(service for service in SERVICES if service.endswith(end)), name


@pytest.fixture
async def subject() -> AsyncIterator[Scripted]:
    subject = Scripted()
    yield subject
    subject.fleet.stop(0)


@pytest.fixture
async def server(subject: Scripted) -> AsyncIterator[DebugServer]:
    server = DebugServer(subject, "127.0.0.1:0")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(server: DebugServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
async def call(channel: grpc.aio.Channel) -> Caller:
    return Caller(channel)


Connect = Callable[..., Client]


@pytest.fixture
async def connect(subject: Scripted) -> AsyncIterator[Connect]:
    """Opens an xDS stream: `connect(Wire.DELTA, node="a")`."""
    xds = Server(subject.fleet, "127.0.0.1:0")
    await xds.start()
    async with grpc.aio.insecure_channel(xds.address) as channel:

        def connect(wire: Wire = Wire.DELTA, *, node: str = "envoy-1", only: str | None = None) -> Client:
            return Client(channel, wire, only=only, node=node)

        yield connect
    await xds.stop(0)
