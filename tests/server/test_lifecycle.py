"""Start, health, pings and stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from tests.server.client import Client, count, eventually, names, resource
from tests.server.conftest import Connect
from xds.protocol.session import Wire
from xds.server.fleet import Fleet
from xds.server.server import SERVICES, Server
from xds.snapshot import CLUSTER, Snapshot

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_stop_ends_streams_one_after_the_other_within_the_grace_time(connect: Connect, server: Server, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("a")])
    clients = [connect(Wire.DELTA, node=str(i)) for i in range(30)]
    for client in clients:
        await client.subscribe(CLUSTER)
        await client.read()
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def ended(client: Client) -> float:
        assert await client.ended() == (grpc.StatusCode.UNAVAILABLE, "the management server is stopping")
        return loop.time() - begin

    stopping = asyncio.create_task(server.stop(0.5))
    ends = sorted(await asyncio.gather(*map(ended, clients)))
    await stopping
    assert ends[-1] - ends[0] > 0.1
    assert not [end for end in ends if end > 0.5]


async def test_stop_does_not_wait_for_clients_that_do_not_read(snapshot: Snapshot, registry: CollectorRegistry) -> None:
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    fleet = Fleet(snapshot, registry, identifier="xds-0", write_timeout=3600)
    server = Server(fleet, "127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stuck = Client(channel, Wire.DELTA)
        await stuck.subscribe(CLUSTER)
        await eventually(lambda: bool(fleet.connected()))
        stopping = asyncio.create_task(server.stop(1))
        await eventually(lambda: not fleet.connected())
        assert not stopping.done()
        assert count(registry, "xds_write_timeouts_total") == 0
        await stopping


async def test_a_server_that_stops_takes_no_new_streams(connect: Connect, server: Server) -> None:
    old = connect(Wire.DELTA)
    await old.subscribe(CLUSTER)
    await old.read()
    stopping = asyncio.create_task(server.stop(1))
    await asyncio.sleep(0)
    new = connect(Wire.DELTA)
    assert (await new.ended())[0] is grpc.StatusCode.UNAVAILABLE
    await stopping


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
        stopping = asyncio.create_task(server.stop(0.2))
        assert (await watching.read()).status == NOT_SERVING
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
        envoy = Client(channel, Wire.DELTA)
        await envoy.subscribe(CLUSTER)
        assert (await envoy.ended())[0] is grpc.StatusCode.UNAVAILABLE
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
            async with asyncio.timeout(10):
                for event in connection.receive_data(await reader.read(65536)):
                    assert not isinstance(event, h2.events.ConnectionTerminated)
                    answered += isinstance(event, h2.events.PingAckReceived)
            writer.write(connection.data_to_send())
    writer.close()
    await writer.wait_closed()


def test_localhost_is_taken_for_this_machine(fleet: Fleet) -> None:
    assert Server(fleet, "localhost:0").address == "localhost:0"
