"""Streams over a real connection."""

from __future__ import annotations

import asyncio
import gc
import weakref

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tests.server.client import FENCE, Client, count, eventually, names, resource
from tests.server.conftest import Connect
from xds.protocol.discovery import Wire
from xds.server.fleet import Fleet
from xds.server.server import Server
from xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Snapshot

BOTH = pytest.mark.parametrize("wire", Wire)
RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"


def _ids(fleet: Fleet) -> list[str]:
    return [stream.node.id for stream in fleet.connected() if stream.node is not None]


@BOTH
async def test_a_client_gets_what_it_subscribes_to_and_then_what_changes(
    wire: Wire, connect: Connect, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry
) -> None:
    snapshot[CLUSTER].update([resource("a")])
    envoy = connect(wire)
    await envoy.subscribe(CLUSTER)
    first = await envoy.read()
    assert names(first) == ["a"]
    assert [r.type_url if wire is Wire.SOTW else r.resource.type_url for r in first.resources] == [CLUSTER]
    await envoy.answer(first)
    await eventually(lambda: count(registry, "xds_acks_total", type="cds") == 1)

    snapshot[CLUSTER].update([resource("b")])
    fleet.publish()
    second = await envoy.read()
    assert names(second) == (["a", "b"] if wire is Wire.SOTW else ["b"])
    assert second.nonce != first.nonce
    assert second.control_plane.identifier == "xds-0"
    assert (second.version_info if wire is Wire.SOTW else second.system_version_info) == snapshot[CLUSTER].version


@BOTH
async def test_an_ack_is_counted_and_not_answered(
    wire: Wire, connect: Connect, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry
) -> None:
    snapshot[SECRET].update([resource(FENCE)])
    snapshot[CLUSTER].update([resource("a")])
    envoy = connect(wire)
    await envoy.subscribe(CLUSTER)
    response = await envoy.read()
    assert count(registry, "xds_acks_total", type="cds") == 0
    await envoy.answer(response)
    await envoy.answer(response)
    await envoy.fence()
    assert count(registry, "xds_acks_total", type="cds") == 1
    assert count(registry, "xds_responses_total", type="cds") == 1
    assert count(registry, "xds_response_bytes_total", type="cds") > 0
    [connected] = fleet.connected()
    assert connected.session.status(CLUSTER).accepted == snapshot[CLUSTER].version


@BOTH
async def test_a_rejection_is_kept_counted_and_not_answered(
    wire: Wire, connect: Connect, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot[SECRET].update([resource(FENCE)])
    snapshot[CLUSTER].update([resource("a")])
    envoy = connect(wire)
    await envoy.subscribe(CLUSTER)
    key = "-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----"
    await envoy.answer(await envoy.read(), error=f"cluster a is bad\n\x1b[31m{key}" + " x" * 100_000)
    await envoy.fence()
    assert count(registry, "xds_nacks_total", type="cds") == 1
    assert count(registry, "xds_acks_total", type="cds") == 0
    [connected] = fleet.connected()
    reason = connected.session.rejections[CLUSTER]
    assert reason.startswith("cluster a is bad\n")
    assert "MIIsecret" not in reason
    [logged] = [r.getMessage() for r in caplog.records if "rejected cds" in r.getMessage()]
    assert r"cluster a is bad\n\x1b[31m[hidden] x x" in logged
    assert len(logged) < 1000

    snapshot[CLUSTER].update([resource("a", "better")])
    fleet.publish()
    await envoy.answer(await envoy.read())
    await eventually(lambda: not connected.session.rejections)


@BOTH
async def test_a_stale_nonce_is_counted(wire: Wire, connect: Connect, snapshot: Snapshot, registry: CollectorRegistry) -> None:
    snapshot[SECRET].update([resource(FENCE)])
    snapshot[CLUSTER].update([resource("a")])
    envoy = connect(wire)
    await envoy.subscribe(CLUSTER)
    await envoy.read()
    await envoy.send(CLUSTER, nonce="of another stream")
    await envoy.fence()
    assert count(registry, "xds_stale_nonces_total", type="cds") == 1
    assert count(registry, "xds_acks_total", type="cds") == 0


@BOTH
async def test_types_are_said_in_the_order_of_their_references(
    wire: Wire, connect: Connect, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry
) -> None:
    snapshot.ready = False
    envoy = connect(wire)
    await envoy.subscribe(ROUTE, ["r"])
    await envoy.subscribe(LISTENER)
    await envoy.subscribe(ENDPOINT, ["a"])
    await envoy.subscribe(CLUSTER)
    await envoy.subscribe(RUNTIME)
    await eventually(lambda: count(registry, "xds_unknown_type_requests_total") == 1)
    for type_url, name in ((ROUTE, "r"), (LISTENER, "l"), (ENDPOINT, "a"), (CLUSTER, "a")):
        snapshot[type_url].update([resource(name)])
    snapshot.ready = True
    fleet.publish()
    order = []
    for _ in range(4):
        response = await envoy.read()
        order.append(response.type_url)
        await envoy.answer(response, {ROUTE: ["r"], ENDPOINT: ["a"]}.get(response.type_url, ()))
    assert order == [CLUSTER, ENDPOINT, LISTENER, ROUTE]


@BOTH
async def test_nothing_is_said_before_the_first_snapshot_is_ready(wire: Wire, connect: Connect, snapshot: Snapshot, fleet: Fleet) -> None:
    snapshot.ready = False
    envoy = connect(wire)
    await envoy.subscribe(CLUSTER)
    await eventually(lambda: bool(fleet.connected()))
    fleet.publish()
    snapshot[CLUSTER].update([resource("a")])
    snapshot.ready = True
    fleet.publish()
    assert names(await envoy.read()) == ["a"]


async def test_a_reconnect_with_current_versions_is_told_nothing(connect: Connect, snapshot: Snapshot, registry: CollectorRegistry) -> None:
    snapshot[SECRET].update([resource(FENCE)])
    clusters = [resource(f"default/service-{i}/80") for i in range(10_000)]
    snapshot[CLUSTER].update(clusters)
    envoy = connect(Wire.DELTA)
    await envoy.subscribe(CLUSTER, held={c.name: c.version for c in clusters})
    await envoy.fence()
    assert count(registry, "xds_responses_total", type="cds") == 0


async def test_a_reconnect_is_told_only_what_it_missed(connect: Connect, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("current"), resource("changed", "new")])
    envoy = connect(Wire.DELTA)
    await envoy.subscribe(CLUSTER, held={"current": snapshot[CLUSTER]["current"].version, "changed": "old", "gone": "old"})
    said: list[str] = []
    removed: list[str] = []
    while len(said) + len(removed) < 2:
        response = await envoy.read()
        said += names(response)
        removed += response.removed_resources
        await envoy.answer(response)
    assert (said, removed) == (["changed"], ["gone"])


@BOTH
async def test_a_client_that_answers_late_skips_states(
    wire: Wire, connect: Connect, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry
) -> None:
    snapshot[SECRET].update([resource(FENCE)])
    snapshot[CLUSTER].update([resource("a", "0")])
    envoy = connect(wire)
    await envoy.subscribe(CLUSTER)
    first = await envoy.read()
    for i in range(1, 1001):
        snapshot[CLUSTER].update([resource("a", str(i))])
        fleet.publish()
        if i % 100 == 0:
            await asyncio.sleep(0)
    await envoy.answer(first)
    newest = await envoy.read()
    body = newest.resources[0].value if wire is Wire.SOTW else newest.resources[0].resource.value
    assert bytes(body) == b"a=1000"
    await envoy.answer(newest)
    await envoy.fence()
    assert count(registry, "xds_responses_total", type="cds") == 2


async def test_what_changes_while_a_response_is_written_is_said_after_it(
    snapshot: Snapshot,
) -> None:
    snapshot[ENDPOINT].update([resource("a", "1")])
    snapshot[SECRET].update([resource("big", "x" * 20_000_000)])
    fleet = Fleet(snapshot, CollectorRegistry(), identifier="xds-0")
    fleet.publish()
    server = Server(fleet, "127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        envoy = Client(channel, Wire.DELTA)
        await envoy.subscribe(ENDPOINT, ["a"])
        await envoy.answer(await envoy.read())
        await envoy.subscribe(SECRET, ["big"])
        await eventually(lambda: bool(fleet.connected()[0].session.summaries.get(SECRET)))
        snapshot[ENDPOINT].update([resource("a", "2")])
        fleet.publish()
        for _ in range(10):
            await asyncio.sleep(0)  # it has seen that there is something new
        assert [names(await envoy.read()) for _ in range(2)] == [["big"], ["a"]]
    await server.stop(0)


@pytest.mark.parametrize("write_timeout", [1.0])
async def test_a_client_that_never_reads_is_ended_while_others_are_served(
    connect: Connect, server: Server, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry
) -> None:
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    snapshot[ENDPOINT].update([resource("small")])
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as another:
        stuck, other = connect(Wire.DELTA, node="stuck"), Client(another, Wire.DELTA, node="other")
        await stuck.subscribe(CLUSTER)
        await other.subscribe(ENDPOINT, ["small"])
        assert names(await other.read()) == ["small"]
        await eventually(lambda: count(registry, "xds_write_timeouts_total") == 1)
        await eventually(lambda: _ids(fleet) == ["other"])
        assert count(registry, "xds_connected_streams", wire="delta") == 1
        assert (await stuck.ended())[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("write_timeout", [1.0])
async def test_a_client_that_stops_to_read_is_ended_as_well(
    connect: Connect, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry
) -> None:
    """One timer serves all writes of a stream: a later one has as long as the first, and not for ever."""
    snapshot[ENDPOINT].update([resource("small")])
    snapshot[CLUSTER].update([resource("big", "x" * 20_000_000)])
    envoy = connect(Wire.DELTA)
    await envoy.subscribe(ENDPOINT, ["small"])
    await envoy.answer(await envoy.read())
    await envoy.subscribe(CLUSTER)
    await eventually(lambda: count(registry, "xds_write_timeouts_total") == 1)
    assert (await envoy.ended())[0] is grpc.StatusCode.UNAVAILABLE
    assert fleet.connected() == []


@BOTH
async def test_a_stream_frees_what_it_held_when_its_client_leaves(
    wire: Wire, connect: Connect, snapshot: Snapshot, fleet: Fleet, registry: CollectorRegistry
) -> None:
    tasks = len(asyncio.all_tasks())
    clients = [connect(wire, node=str(i)) for i in range(50)]
    for client in clients:
        await client.subscribe(CLUSTER)
        await client.read()
    assert count(registry, "xds_connected_streams", wire=wire.name.lower()) == 50
    for client in clients[:25]:
        client.call.cancel()
    for client in clients[25:]:
        await client.call.done_writing()
        assert await client.ended() == (grpc.StatusCode.OK, "")
    await eventually(lambda: count(registry, "xds_connected_streams", wire=wire.name.lower()) == 0)
    assert fleet.connected() == []
    assert fleet.load[:2] == (0, 0)
    del clients, client
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_a_stream_that_awaits_an_answer_is_freed_when_its_client_leaves(
    connect: Connect, snapshot: Snapshot, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.protocol.subscription.ACK_TIMEOUT", 3600)
    snapshot[CLUSTER].update([resource("a", "1")])
    envoy = connect(Wire.DELTA)
    await envoy.subscribe(CLUSTER)
    await envoy.read()
    snapshot[CLUSTER].update([resource("a", "2")])
    fleet.publish()
    await eventually(lambda: fleet.connected()[0].session.deadline is not None)
    freed = weakref.ref(fleet.connected()[0])
    envoy.call.cancel()

    def is_freed() -> bool:
        gc.collect()
        return freed() is None

    await eventually(is_freed)


@pytest.fixture
def forgets_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be asked for before the Fleet, which publishes as it is made."""
    monkeypatch.setattr("xds.server.fleet._COMPACT_AFTER", 0)


async def test_what_is_gone_is_forgotten_in_time(forgets_at_once: None, connect: Connect, snapshot: Snapshot, fleet: Fleet) -> None:
    snapshot[SECRET].update([resource(FENCE)])
    envoy = connect(Wire.DELTA)
    await envoy.fence()

    def is_forgotten() -> bool:
        """After one of the next changes: the first may find a stream that has not come that far."""
        fleet.publish()
        return not snapshot[SECRET].gone

    for i in range(2):
        snapshot[SECRET].update([resource(str(i))])
        snapshot[SECRET].update([], [str(i)])
        assert snapshot[SECRET].gone
        await eventually(is_forgotten)


async def test_two_streams_of_one_node_are_both_served(connect: Connect, snapshot: Snapshot, fleet: Fleet) -> None:
    snapshot[CLUSTER].update([resource("a")])
    old, new = connect(Wire.DELTA), connect(Wire.DELTA)
    responses = []
    for envoy in (old, new):
        await envoy.subscribe(CLUSTER)
        responses.append(await envoy.read())
        await envoy.answer(responses[-1])
    assert responses[0].nonce != responses[1].nonce
    snapshot[CLUSTER].update([resource("b")])
    fleet.publish()
    assert [names(await envoy.read()) for envoy in (old, new)] == [["b"], ["b"]]
    assert _ids(fleet) == ["envoy-1", "envoy-1"]


@BOTH
async def test_each_single_type_service_serves_its_type(wire: Wire, connect: Connect, snapshot: Snapshot) -> None:
    for type_url in (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET):
        snapshot[type_url].update([resource("it")])
        envoy = connect(wire, only=type_url)
        await envoy.subscribe("", ["it"])
        response = await envoy.read()
        assert (response.type_url, names(response)) == (type_url, ["it"])


async def test_300_single_type_streams_on_one_connection_are_all_served(connect: Connect, snapshot: Snapshot, fleet: Fleet) -> None:
    snapshot[ENDPOINT].update(resource(str(i)) for i in range(300))
    clients = [connect(Wire.SOTW, only=ENDPOINT) for _ in range(300)]
    for i, client in enumerate(clients):
        await client.subscribe(ENDPOINT, [str(i)])
    assert [names(await client.read()) for client in clients] == [[str(i)] for i in range(300)]
    assert len({c.peer for c in fleet.connected()}) == 1


@BOTH
async def test_the_first_request_needs_a_node_id(wire: Wire, connect: Connect) -> None:
    envoy = connect(wire, node="")
    await envoy.subscribe(CLUSTER)
    assert await envoy.ended() == (grpc.StatusCode.INVALID_ARGUMENT, "the first request of a stream needs a node.id")


@BOTH
async def test_an_ads_request_needs_a_type(wire: Wire, connect: Connect) -> None:
    envoy = connect(wire)
    await envoy.subscribe("")
    assert await envoy.ended() == (grpc.StatusCode.INVALID_ARGUMENT, "an ADS request needs a type_url")


@BOTH
async def test_a_single_type_service_refuses_another_type(wire: Wire, connect: Connect, registry: CollectorRegistry) -> None:
    envoy = connect(wire, only=ENDPOINT)
    await envoy.subscribe(CLUSTER)
    assert await envoy.ended() == (grpc.StatusCode.INVALID_ARGUMENT, f"this service serves {ENDPOINT}, not {CLUSTER}")
    assert count(registry, "xds_refused_streams_total", code="invalid_argument") == 1


@BOTH
async def test_a_type_that_is_not_served_is_met_with_silence(
    wire: Wire, connect: Connect, snapshot: Snapshot, registry: CollectorRegistry
) -> None:
    snapshot[SECRET].update([resource(FENCE)])
    envoy = connect(wire)
    await envoy.subscribe(RUNTIME, ["x"])
    await envoy.fence()
    assert count(registry, "xds_unknown_type_requests_total") == 1


async def test_an_unimplemented_service_says_so(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream("/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime")()
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


def _with_names(number: int, names: list[bytes]) -> bytes:
    """A DeltaDiscoveryRequest of node "big" for clusters, with these strings in a repeated field."""
    return b"\x0a\x05\x0a\x03big" + _strings(2, [CLUSTER.encode()]) + _strings(number, names)


def _strings(number: int, strings: list[bytes]) -> bytes:
    return b"".join(bytes((number << 3 | 2, len(string))) + string for string in strings)


async def test_a_request_of_six_mebibytes_is_accepted(channel: grpc.aio.Channel, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("mine")])
    envoy = Client(channel, Wire.DELTA)
    request = _with_names(3, [b"*"]) + _strings(4, [f"{i:0100d}".encode() for i in range(63_000)])
    assert len(request) > 6 * 2**20
    await envoy.call.write(request)
    assert names(await envoy.read()) == ["mine"]


async def test_a_request_with_too_many_names_is_refused_and_others_are_served(channel: grpc.aio.Channel, snapshot: Snapshot) -> None:
    snapshot[CLUSTER].update([resource("mine")])
    envoy, other = Client(channel, Wire.DELTA), Client(channel, Wire.DELTA)
    await envoy.call.write(_with_names(3, [b"x"] * 1_000_000))
    code, text = await envoy.ended()
    assert (code, text) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the request names 1000000 resources; at most 100000 are allowed",
    )
    await other.subscribe(CLUSTER)
    assert names(await other.read()) == ["mine"]
