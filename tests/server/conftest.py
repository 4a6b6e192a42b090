from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tests.server.client import Client
from xds.protocol.discovery import Wire
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.snapshot import Snapshot

Connect = Callable[..., Client]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def snapshot() -> Snapshot:
    """An empty Snapshot that is complete."""
    snapshot = Snapshot()
    snapshot.ready = True
    return snapshot


@pytest.fixture
def write_timeout() -> float:
    """Long: on a busy machine a client that reads is slow, too."""
    return 60.0


@pytest.fixture
async def fleet(snapshot: Snapshot, registry: CollectorRegistry, write_timeout: float) -> Fleet:
    fleet = Fleet(snapshot, registry, identifier="xds-0", write_timeout=write_timeout, most_names=100_000)
    fleet.publish()
    return fleet


@pytest.fixture
async def server(fleet: Fleet) -> AsyncIterator[Server]:
    server = Server(fleet, "127.0.0.1:0")
    await server.start()
    yield server
    await server.stop(0)


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


@pytest.fixture
async def connect(channel: grpc.aio.Channel) -> Connect:
    """Opens a stream: `connect(Wire.DELTA)`, `connect(Wire.SOTW, only=ENDPOINT)`."""

    def connect(wire: Wire, *, only: str | None = None, node: str = "envoy-1") -> Client:
        return Client(channel, wire, only=only, node=node)

    return connect
