"""Start, health, pings and stop."""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from tests.server.client import FENCE, Client, count, eventually, names, resource
from tests.server.conftest import Connect
from xds.protocol.discovery import Wire
from xds.server.fleet import Fleet
from xds.server.server import SERVICES, Server
from xds.snapshot import CLUSTER, SECRET, Snapshot

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


STOPPING = (grpc.StatusCode.UNAVAILABLE, "the management server is stopping")


class Dice:
    """In the place of `random`: says these numbers, and remembers between which they were to be."""

    def __init__(self, *numbers: float) -> None:
        self.asked: list[tuple[float, float]] = []
        self._numbers = itertools.cycle(numbers)

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return next(self._numbers)


async def _subscribed(connect: Connect, node: str) -> Client:
    client = connect(Wire.DELTA, node=node)
    await client.subscribe(CLUSTER)
    await client.read()
    return client


async def test_a_fleet_that_stops_ends_each_stream_at_a_moment_of_its_own(
    connect: Connect, fleet: Fleet, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = Dice(0, 3600)
    monkeypatch.setattr("xds.server.fleet.random", dice)
    snapshot[SECRET].update([resource(FENCE)])
    now, later = [await _subscribed(connect, node) for node in ("now", "later")]
    fleet.stop(5)
    assert await now.ended() == STOPPING
    await later.fence()
    assert dice.asked == [(0, 5)] * 2


async def test_a_server_that_stops_ends_all_streams_within_the_grace_time(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = Dice(0, 0.01)
    monkeypatch.setattr("xds.server.fleet.random", dice)
    clients = [await _subscribed(connect, str(i)) for i in range(30)]
    await server.stop(3600)
    assert [await client.ended() for client in clients] == [STOPPING] * 30
    [(soonest, latest)] = set(dice.asked)
    assert (soonest, latest) == (0, 3600)


async def test_stop_does_not_wait_for_clients_that_do_not_read(connect: Connect, server: Server, fleet: Fleet, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    stuck = connect(Wire.DELTA)
    await stuck.subscribe(CLUSTER)
    await eventually(lambda: bool(fleet.connected()))
    await server.stop(0.1)
    assert not fleet.connected()


async def test_a_fleet_that_stops_forgets_clients_that_do_not_read(
    connect: Connect, fleet: Fleet, snapshot: Snapshot, registry: CollectorRegistry
) -> None:
    """Long before the time that they have to read."""
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    stuck = connect(Wire.DELTA)
    await stuck.subscribe(CLUSTER)
    await eventually(lambda: bool(fleet.connected()))
    fleet.stop(0)
    await eventually(lambda: not fleet.connected())
    assert count(registry, "xds_write_timeouts_total") == 0


async def test_a_server_that_stops_takes_no_new_streams(connect: Connect, server: Server) -> None:
    """A stream that comes on an open connection before its client has read the GOAWAY is cancelled by gRPC itself: no code of ours runs."""
    await _subscribed(connect, "old")
    stopping = asyncio.create_task(server.stop(1))
    await asyncio.sleep(0)
    new = connect(Wire.DELTA)
    assert (await new.ended())[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    await stopping


async def test_a_fleet_that_stops_says_so_to_new_streams(connect: Connect, fleet: Fleet) -> None:
    fleet.stop(0)
    assert await connect(Wire.DELTA).ended() == STOPPING


def test_an_event_loop_that_ends_with_its_server_leaves_nothing_in_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Health is watched by gRPC's own code, which takes a moment to end."""

    async def serve() -> None:
        server = Server(Fleet(Snapshot(), CollectorRegistry(), identifier="xds-0"), "127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await watching.read()
            await server.stop(0)

    asyncio.run(serve())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Traceback" not in capfd.readouterr().err


async def test_a_server_that_never_started_can_be_stopped(fleet: Fleet) -> None:
    await Server(fleet, "127.0.0.1:0").stop()


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_follows_readiness(service: str, registry: CollectorRegistry) -> None:
    snapshot = Snapshot()
    fleet = Fleet(snapshot, registry, identifier="xds-0")
    server = Server(fleet, "127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        watching = stub.Watch(request)
        assert (await watching.read()).status == NOT_SERVING
        fleet.publish()
        assert (await stub.Check(request)).status == NOT_SERVING
        snapshot.ready = True
        fleet.publish()
        assert (await watching.read()).status == SERVING
        assert (await stub.Check(request)).status == SERVING
        stopping = asyncio.create_task(server.stop(3600))
        assert (await watching.read()).status == NOT_SERVING
        watching.cancel()
        await stopping


async def test_a_port_in_use_is_an_error_that_names_it(server: Server, snapshot: Snapshot, fleet: Fleet) -> None:
    second = Server(fleet, server.address)
    with pytest.raises(OSError, match=rf"^the xDS server cannot listen on {server.address}: .*in use"):
        await second.start()


async def test_a_unix_socket_is_served_in_plaintext(fleet: Fleet, snapshot: Snapshot, tmp_path: Path) -> None:
    snapshot[CLUSTER].update([resource("a")])
    server = Server(fleet, f"unix:{tmp_path}/xds.sock")
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        envoy = Client(channel, Wire.DELTA)
        await envoy.subscribe(CLUSTER)
        assert names(await envoy.read()) == ["a"]
    await server.stop(0)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:18000", "envoy.example.com:18000"])
def test_plaintext_beyond_this_machine_is_refused(address: str, fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="only with TLS"):
        Server(fleet, address)


async def test_a_connection_reaches_its_greatest_age(fleet: Fleet, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.server.server._AGE_GRACE_MS", 10)
    server = Server(fleet, "127.0.0.1:0", max_connection_age=0.05)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        assert (await Client(channel, Wire.DELTA).ended())[0] is grpc.StatusCode.UNAVAILABLE
    await server.stop(0)


async def test_connections_of_one_time_reach_their_greatest_age_one_after_the_other(
    fleet: Fleet, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.server.server._AGE_GRACE_MS", 10)
    server = Server(fleet, "127.0.0.1:0", max_connection_age=0.5)
    await server.start()
    loop = asyncio.get_running_loop()

    async def ended() -> float:
        async with grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            envoy = Client(channel, Wire.DELTA)
            await envoy.subscribe(CLUSTER)
            assert (await envoy.ended())[0] is grpc.StatusCode.UNAVAILABLE
            return loop.time()

    ends = await asyncio.gather(*(ended() for _ in range(8)))
    assert max(ends) - min(ends) > 0.02
    await server.stop(0)


async def test_an_idle_stream_may_be_pinged_as_often_as_its_client_likes(server: Server) -> None:
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    answered = 0
    for _ in range(50):
        connection.ping(b"12345678")
        writer.write(connection.data_to_send())
        before = answered
        while answered == before:
            async with asyncio.timeout(120):
                for event in connection.receive_data(await reader.read(65536)):
                    assert not isinstance(event, h2.events.ConnectionTerminated)
                    answered += isinstance(event, h2.events.PingAckReceived)
            writer.write(connection.data_to_send())
    writer.close()
    await writer.wait_closed()


def test_localhost_is_taken_for_this_machine(fleet: Fleet) -> None:
    assert Server(fleet, "localhost:0").address == "localhost:0"
