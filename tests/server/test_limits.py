"""How much one client, or many at once, may ask of the server; and that the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tests.server.client import FENCE, Client, count, eventually, names, resource
from tests.server.conftest import Connect
from xds.debug import server as debug_server
from xds.protocol.discovery import Wire
from xds.server import server as xds_server
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.server.turns import WeightedSemaphore
from xds.snapshot import CLUSTER, LISTENER, SECRET, Snapshot

Serve = Callable[..., Awaitable[tuple[Fleet, str]]]
Listen = Callable[[dict[str, int]], Awaitable[int]]


@pytest.fixture
async def serve(snapshot: Snapshot, registry: CollectorRegistry) -> AsyncIterator[Serve]:
    """Serves a Fleet with these limits: `fleet, address = await serve(most_streams=3)`."""
    servers: list[Server] = []

    async def serve(**limits: Any) -> tuple[Fleet, str]:
        fleet = Fleet(snapshot, registry, identifier="xds-0", **limits)
        fleet.publish()
        servers.append(Server(fleet, "127.0.0.1:0"))
        await servers[-1].start()
        return fleet, servers[-1].address

    yield serve
    for server in servers:
        await server.stop(0)


def _channel(address: str) -> grpc.aio.Channel:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)]
    return grpc.aio.insecure_channel(address, options=options)


async def test_500_streams_that_come_at_once_are_all_served(connect: Connect, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("a", "x" * 100_000)])
    clients = [connect(Wire.DELTA, node=str(i)) for i in range(500)]

    async def first(client: Client) -> list[str]:
        await client.subscribe(CLUSTER)
        return names(await client.read())

    assert await asyncio.gather(*map(first, clients)) == [["a"]] * 500


async def test_new_streams_beyond_those_that_may_wait_are_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    monkeypatch.setattr("xds.server.fleet._ARRIVING_AT_ONCE", 1)
    monkeypatch.setattr("xds.server.stream._ARRIVAL", 3600)
    _, address = await serve(most_waiting=1)
    async with _channel(address) as channel:
        silent = Client(channel, Wire.DELTA)
        await eventually(lambda: count(registry, "xds_connected_streams", wire="delta") == 1)
        waiting = Client(channel, Wire.DELTA)
        await eventually(lambda: count(registry, "xds_connected_streams", wire="delta") == 2)
        refused = Client(channel, Wire.DELTA)
        text = "1 new streams wait to be served; try again later"
        assert await refused.ended() == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        assert count(registry, "xds_refused_streams_total", code="resource_exhausted") == 1
        silent.call.cancel()
        await waiting.subscribe(CLUSTER)
        assert names(await waiting.read()) == []


async def test_a_stream_that_was_served_once_makes_room_for_the_next(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.server.fleet._ARRIVING_AT_ONCE", 1)
    monkeypatch.setattr("xds.server.stream._ARRIVAL", 3600)
    _, address = await serve()
    async with _channel(address) as channel:
        clients = [Client(channel, Wire.DELTA) for _ in range(3)]
        for client in clients:
            await client.subscribe(CLUSTER)
        for client in clients:
            await client.read()


async def test_a_new_stream_that_says_nothing_does_not_keep_others_waiting(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xds.server.fleet._ARRIVING_AT_ONCE", 1)
    monkeypatch.setattr("xds.server.stream._ARRIVAL", 0.01)
    _, address = await serve()
    async with _channel(address) as channel:
        silent = [Client(channel, Wire.DELTA) for _ in range(3)]
        client = Client(channel, Wire.DELTA)
        await client.subscribe(CLUSTER)
        await client.read()
        assert not any(other.call.done() for other in silent)


async def test_streams_of_one_connection_are_limited(serve: Serve, registry: CollectorRegistry) -> None:
    _, address = await serve(most_streams=2)
    async with _channel(address) as channel, _channel(address) as another:
        clients = [Client(channel, Wire.DELTA) for _ in range(2)]
        for client in clients:
            await client.subscribe(CLUSTER)
            await client.read()
        refused = Client(channel, Wire.DELTA)
        text = "the connection has 2 streams; more are not allowed"
        assert await refused.ended() == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        assert count(registry, "xds_refused_streams_total", code="resource_exhausted") == 1
        elsewhere = Client(another, Wire.DELTA)
        await elsewhere.subscribe(CLUSTER)
        await elsewhere.read()
        clients[0].call.cancel()
        await eventually(lambda: count(registry, "xds_connected_streams", wire="delta") == 2)
        instead = Client(channel, Wire.DELTA)
        await instead.subscribe(CLUSTER)
        await instead.read()


async def test_bytes_under_way_are_bounded_over_all_streams(serve: Serve, snapshot: Snapshot, registry: CollectorRegistry) -> None:
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    fleet, address = await serve(most_bytes_in_flight=30_000_000)
    async with _channel(address) as channel, _channel(address) as another:
        stuck, other = Client(channel, Wire.DELTA), Client(another, Wire.DELTA)
        await stuck.subscribe(CLUSTER)
        await other.subscribe(CLUSTER)
        await eventually(lambda: fleet.load.first_waiting == 1)
        assert count(registry, "xds_responses_total", type="cds") == 0
        stuck.call.cancel()
        assert names(await other.read()) == ["big"]


async def test_a_request_that_is_too_large_is_refused(channel: grpc.aio.Channel, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("mine")])
    envoy, other = Client(channel, Wire.DELTA), Client(channel, Wire.DELTA)
    await envoy.call.write(bytes(33 * 2**20))
    assert (await envoy.ended())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    await other.subscribe(CLUSTER)
    assert names(await other.read()) == ["mine"]


async def test_who_does_not_read_goes_soon_where_others_wait_and_only_there(
    serve: Serve, snapshot: Snapshot, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.server.stream._CONGESTED_TIMEOUT", 0.05)
    looks: list[WeightedSemaphore] = []
    waiting = WeightedSemaphore.waiting.fget
    assert waiting is not None
    monkeypatch.setattr(WeightedSemaphore, "waiting", property(lambda semaphore: looks.append(semaphore) or waiting(semaphore)))
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    fleet, address = await serve(most_bytes_in_flight=30_000_000, write_timeout=3600)
    async with _channel(address) as channel, _channel(address) as another:
        deaf, other = Client(channel, Wire.DELTA), Client(another, Wire.DELTA)
        await deaf.subscribe(CLUSTER)
        await eventually(lambda: fleet.load.first_in_flight > 0)
        looks.clear()  # no stream is new from now on: who looks is the one that writes
        await eventually(lambda: bool(looks))
        assert not deaf.call.done()
        await other.subscribe(CLUSTER)
        assert names(await other.read()) == ["big"]
        assert (await deaf.ended())[0] is grpc.StatusCode.UNAVAILABLE, "its connection is cut"
        assert count(registry, "xds_refused_streams_total", code="resource_exhausted") == 1
        assert count(registry, "xds_write_timeouts_total") == 1


async def test_new_clients_that_never_read_hold_up_nobody_who_has_answered(
    serve: Serve, snapshot: Snapshot, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.server.stream._CONGESTED_TIMEOUT", 3600)
    fleet, address = await serve(most_bytes_in_flight=30_000_000, write_timeout=3600)
    async with _channel(address) as channel, _channel(address) as another:
        envoy = Client(channel, Wire.DELTA)
        await envoy.subscribe(CLUSTER)
        await envoy.answer(await envoy.read())
        await eventually(lambda: count(registry, "xds_acks_total", type="cds") == 1)
        snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
        deaf = [Client(another, Wire.DELTA) for _ in range(3)]
        for client in deaf:
            await client.subscribe(CLUSTER)
        await eventually(lambda: fleet.load.first_waiting == 2)
        fleet.publish()
        async with asyncio.timeout(120):
            assert names(await envoy.read()) == ["big"]
        assert not any(client.call.done() for client in deaf)


@contextlib.asynccontextmanager
async def _from(host: str, address: str) -> AsyncIterator[str]:
    """An address behind which is that of the server, which sees its clients at this host."""
    server_host, _, port = address.rpartition(":")
    writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(server_host, int(port), local_addr=(host, 0))
        writers.extend((writer, back))
        await asyncio.gather(copy(reader, back), copy(there, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as relaying:
        yield f"127.0.0.1:{relaying.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("connections", [1, 12], ids=["of one connection", "of one address"])
async def test_many_that_never_read_hold_up_no_new_client_elsewhere(
    serve: Serve, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, connections: int
) -> None:
    monkeypatch.setattr("xds.server.stream._CONGESTED_TIMEOUT", 3600)
    monkeypatch.setattr("xds.server.fleet._CLOSE_TIMEOUT", 3600)
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    fleet, address = await serve(most_bytes_in_flight=30_000_000, write_timeout=3600)
    async with contextlib.AsyncExitStack() as stack:
        theirs = await stack.enter_async_context(_from("127.0.0.2", address)) if connections > 1 else address
        channels = [await stack.enter_async_context(_channel(theirs)) for _ in range(connections)]
        deaf = [Client(channels[n % connections], Wire.DELTA, node=f"deaf-{n}") for n in range(12)]
        for client in deaf:
            await client.subscribe(CLUSTER)
        await eventually(lambda: fleet.load.first_in_flight > 0 and fleet.load.first_waiting == 11)
        envoy = Client(await stack.enter_async_context(_channel(address)), Wire.DELTA, node="new")
        await envoy.subscribe(CLUSTER)
        await eventually(lambda: fleet.load.first_waiting == 12)
        for _ in range(2):  # the one that holds the room, and at most one more before a new peer
            going = next(stream for stream in fleet.connected() if stream.writing and stream.node and stream.node.id != "new")
            going.evict("it is deaf")
            await eventually(lambda going=going: not going.writing)  # type: ignore[misc]
            if any(stream.writing for stream in fleet.connected() if stream.node and stream.node.id == "new"):
                break
        async with asyncio.timeout(120):
            assert names(await envoy.read()) == ["big"]


@pytest.mark.parametrize("refused", [False, True], ids=["in time", "the end of its stream"])
async def test_who_does_not_read_loses_the_connection(
    serve: Serve, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    monkeypatch.setattr("xds.server.fleet._CLOSE_TIMEOUT", 0.2 if refused else 3600)
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    fleet, address = await serve(write_timeout=3600 if refused else 0.2)
    async with _channel(address) as channel, _channel(address) as another:
        deaf, beside, elsewhere = Client(channel, Wire.DELTA), Client(channel, Wire.DELTA), Client(another, Wire.DELTA)
        await elsewhere.subscribe(SECRET, ["none"])
        await elsewhere.read()
        await deaf.subscribe(CLUSTER)
        if refused:
            await eventually(lambda: any(stream.writing for stream in fleet.connected()))
            next(stream for stream in fleet.connected() if stream.writing).evict("it takes too much")
        async with asyncio.timeout(120):
            assert await deaf.call.code() is grpc.StatusCode.UNAVAILABLE, "though it has read nothing"
            assert await beside.call.code() is grpc.StatusCode.UNAVAILABLE, "with all that is on its connection"
        await elsewhere.subscribe(SECRET, ["another"])
        await elsewhere.read()
        await eventually(lambda: len(fleet.connected()) == 1)


@pytest.mark.parametrize("wire", Wire)
async def test_a_node_that_is_too_big_is_refused(connect: Connect, wire: Wire) -> None:
    client = connect(wire, node="n" * (2**20 + 1))
    await client.subscribe(CLUSTER)
    assert (await client.ended())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("slice_", [3, 5_000])
async def test_a_stream_may_name_only_so_many_that_do_not_exist(
    serve: Serve, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, wire: Wire, slice_: int
) -> None:
    for module in ("messages", "stream"):
        monkeypatch.setattr(f"xds.server.{module}.SLICE", slice_)
    snapshot[CLUSTER].update([resource(f"c{n:02}") for n in range(20)])
    _, address = await serve(most_unknown=10)
    text = "the client names 11 resources that do not exist; at most 10 are allowed"
    async with _channel(address) as channel:
        much, at_once = Client(channel, wire), Client(channel, wire)
        known, unknown = [f"c{n:02}" for n in range(20)], [f"x{n:02}" for n in range(11)]
        await much.subscribe(CLUSTER, known + unknown[:10])
        found = [name for name in names(await much.read()) if name in known]
        while len(found) < 20:
            found += [name for name in names(await much.read()) if name in known]
        assert sorted(found) == known
        await much.subscribe(CLUSTER, known + unknown)
        assert await much.ended() == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        await at_once.subscribe(CLUSTER, unknown)
        assert await at_once.ended() == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)


async def test_where_all_streams_take_too_much_the_newest_that_takes_much_is_refused(serve: Serve, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("a")])
    fleet, address = await serve(most_bytes=1_850_000)
    async with _channel(address) as channel:
        old = Client(channel, Wire.DELTA, node="old")
        await old.subscribe(CLUSTER, ["a", *(f"old-{n}-{'x' * 100}" for n in range(1_000))])
        await old.read()
        much = Client(channel, Wire.DELTA, node="much")
        await much.subscribe(CLUSTER, ["a", *(f"much-{n}-{'x' * 100}" for n in range(2_000))])
        await much.read()
        light = Client(channel, Wire.DELTA, node="light")
        await light.subscribe(CLUSTER, ["a"])
        assert names(await light.read()) == ["a"]
        await old.subscribe(CLUSTER, [f"more-{n}-{'x' * 100}" for n in range(1_000)])
        text = "all streams together take more than 1850000 bytes, and this is one of the newest"
        assert await much.ended() == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        await old.read()
        await light.subscribe(CLUSTER, ["a"])
        await light.read()
        for client in (old, light):
            client.call.cancel()
        await eventually(lambda: fleet.load.total == 0)


async def test_what_a_large_response_took_is_free_once_it_is_answered(
    serve: Serve, snapshot: Snapshot, registry: CollectorRegistry
) -> None:
    snapshot[CLUSTER].update([resource("a", "x")])
    fleet, address = await serve()
    async with _channel(address) as channel:
        client = Client(channel, Wire.DELTA)
        await client.subscribe(CLUSTER, ["a", "big"])
        await client.answer(await client.read())
        await eventually(lambda: count(registry, "xds_acks_total", type="cds") == 1)
        before = fleet.load.total
        snapshot[CLUSTER].update([resource("big", "x" * 50_000)])
        fleet.publish()
        response = await client.read()
        assert fleet.load.total > before + 50_000
        await client.answer(response)
        await eventually(lambda: fleet.load.total <= before)


async def test_requests_that_are_kept_until_the_first_snapshot_take_room_whatever_they_have(
    serve: Serve, snapshot: Snapshot, registry: CollectorRegistry
) -> None:
    snapshot.ready = False
    _, address = await serve(most_bytes=1_000_000)
    async with _channel(address) as channel:
        client = Client(channel, Wire.DELTA)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # once it is ended
            for _ in range(400):
                await client.send(LISTENER, resource_names_unsubscribe=[f"{n}-{'x' * 100}" for n in range(100)])
        await eventually(lambda: bool(registry.get_sample_value("xds_refused_streams_total", {"code": "resource_exhausted"})))


async def test_streams_that_say_nothing_take_no_room_from_those_that_were_there_before(serve: Serve, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("a", "x" * 100_000)])
    snapshot[SECRET].update([resource(FENCE)])
    _, address = await serve(most_bytes=400_000)
    async with _channel(address) as channel, _channel(address) as another:
        envoy = Client(channel, Wire.DELTA)
        await envoy.subscribe(CLUSTER)
        await envoy.answer(await envoy.read())
        silent = [Client(another, Wire.DELTA) for _ in range(20)]
        await eventually(lambda: any(client.call.done() for client in silent))
        for client in silent:
            if client.call.done():
                assert (await client.ended())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        await envoy.subscribe(CLUSTER, ["a"])
        response = await envoy.read()
        assert names(response) == ["a"]
        await envoy.answer(response)
        await envoy.fence()


@pytest.fixture(params=["xds", "debug"])
async def listen(request: pytest.FixtureRequest, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listen]:
    """Starts a server with these options of gRPC, and says its port: `await listen({"grpc.max_connection_idle_ms": 1})`."""
    servers: list[Server | debug_server.DebugServer] = []

    async def listen(options: dict[str, int]) -> int:
        for name, value in options.items():
            monkeypatch.setitem(debug_server.OPTIONS, name, value)
            monkeypatch.setitem(xds_server.OPTIONS, name, value)
        subject: Any = SimpleNamespace(ready=asyncio.Event())
        servers.append(
            Server(fleet, "127.0.0.1:0", most_connections=3) if request.param == "xds" else debug_server.DebugServer(subject, "127.0.0.1:0")
        )
        await servers[-1].start()
        return int(servers[-1].address.rpartition(":")[2])

    yield listen
    for each in servers:
        await each.stop()


async def _is_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(120):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize("said", [b"", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")])
async def test_a_connection_on_which_nothing_begins_is_closed(listen: Listen, said: bytes) -> None:
    port = await listen({"grpc.server_handshake_timeout_ms": 300, "grpc.max_connection_idle_ms": 300})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    await _is_closed(reader, writer)


async def test_there_are_only_so_many_connections(listen: Listen) -> None:
    port = await listen({"grpc.max_allowed_incoming_connections": 3})
    taken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    await _is_closed(*await asyncio.open_connection("127.0.0.1", port))
    assert not any(reader.at_eof() for reader, _ in taken)
    for _, writer in taken:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
