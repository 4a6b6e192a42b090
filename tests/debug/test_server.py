"""What surrounds the services: health, reflection, channelz, starting, draining and stopping."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.debug.conftest import Caller, Scripted
from tests.server.client import resource
from xds.debug import v1
from xds.debug.live import serve
from xds.debug.reflection import Reflection
from xds.debug.server import ALL_SERVICES, DebugServer
from xds.snapshot import CLUSTER

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health(channel: grpc.aio.Channel) -> set[int]:
    """What all services say, and the server as a whole."""
    stub = health_pb2_grpc.HealthStub(channel)
    return {(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", *ALL_SERVICES)}


async def test_every_service_is_healthy_from_the_first_snapshot_until_it_drains(
    subject: Scripted, server: DebugServer, channel: grpc.aio.Channel
) -> None:
    assert await health(channel) == {NOT_SERVING}
    watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="xds.debug.v1.Debug"))
    assert (await watching.read()).status == NOT_SERVING
    subject.put(CLUSTER, resource("web"))
    assert (await watching.read()).status == SERVING
    await server.drain()
    assert (await watching.read()).status == NOT_SERVING
    assert await health(channel) == {NOT_SERVING}
    watching.cancel()


async def test_everything_is_still_told_while_it_drains(server: DebugServer, call: Caller) -> None:
    await server.drain()
    assert (await call("Debug/Fleet", v1.FleetRequest())).replica == "xds-0"


async def test_who_drains_before_the_first_snapshot_never_serves(subject: Scripted, server: DebugServer, channel: grpc.aio.Channel) -> None:
    await server.drain()
    subject.put(CLUSTER, resource("web"))
    await asyncio.sleep(0)
    assert await health(channel) == {NOT_SERVING}


async def test_stopping_ends_those_who_watch_without_a_word_in_the_log(
    server: DebugServer, call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    watching = call.stream("Debug/Watch", v1.WatchRequest())
    await watching.initial_metadata()
    await server.stop()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watching.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_server_that_has_stopped_leaves_nothing_behind(subject: Scripted) -> None:
    before = asyncio.all_tasks()
    server = DebugServer(subject, "127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        watching = Caller(channel).stream("Debug/Watch", v1.WatchRequest())
        await watching.initial_metadata()
        await server.stop()
        left = {str(task.get_coro()) for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
        assert [task for task in left if "follow_health" in task or "handle_rpc" in task or "_watch" in task] == []


async def test_a_port_that_is_taken_is_told_and_harms_nobody(subject: Any, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert await serve(subject, f"127.0.0.1:{taken.getsockname()[1]}") is None
    (said,) = [record.getMessage() for record in caplog.records if record.name == "xds.debug"]
    assert "the debug server cannot listen on 127.0.0.1:" in said
    assert "Address already in use" in said


async def test_it_listens_on_a_unix_socket(subject: Scripted, tmp_path: Path) -> None:
    server = DebugServer(subject, f"unix:{tmp_path}/debug.sock")
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        assert (await Caller(channel)("Debug/Fleet", v1.FleetRequest())).replica == "xds-0"
    await server.stop()


async def test_a_server_that_never_started_can_be_stopped(subject: Scripted) -> None:
    await DebugServer(subject, "127.0.0.1:0").stop()


async def test_channelz_knows_this_server(channel: grpc.aio.Channel) -> None:
    servers = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest())
    sockets = {found.name for one in servers.server for found in one.listen_socket}
    assert "chttp2 listener ipv4:127.0.0.1:0" in sockets  # as it was asked for


# Reflection


@pytest.fixture(params=["grpc.reflection.v1", "grpc.reflection.v1alpha"])
async def reflect(request: pytest.FixtureRequest, channel: grpc.aio.Channel) -> AsyncIterator[Any]:
    """Asks on one stream."""
    stream = channel.stream_stream(
        f"/{request.param}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()

    async def ask(**what: Any) -> Any:
        await stream.write(reflection_pb2.ServerReflectionRequest(**what))
        return await stream.read()

    yield ask
    stream.cancel()


def file_names(answer: Any) -> list[str]:
    return [FileDescriptorProto.FromString(raw).name for raw in answer.file_descriptor_response.file_descriptor_proto]


async def test_reflection_lists_every_service(reflect: Any) -> None:
    listed = (await reflect(list_services="")).list_services_response.service
    assert [found.name for found in listed] == sorted(ALL_SERVICES)


@pytest.mark.parametrize("service", ALL_SERVICES)
async def test_reflection_describes_every_service(reflect: Any, service: str) -> None:
    answer = await reflect(file_containing_symbol=service)
    first = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert service in [f"{first.package}.{found.name}" for found in first.service]


async def test_reflection_sends_a_file_with_all_that_it_depends_on(reflect: Any) -> None:
    names = file_names(await reflect(file_containing_symbol="xds.debug.v1.Change"))
    assert names[0] == "xds/debug/v1/Change.proto"
    assert {"google/protobuf/timestamp.proto", "xds/debug/v1/ObjectReference.proto"} <= set(names)
    assert sorted(names) == sorted(set(names))
    assert file_names(await reflect(file_by_filename="xds/debug/v1/Change.proto")) == names


@pytest.mark.parametrize(
    "what",
    [
        {"file_containing_symbol": "xds.debug.v1.Nothing"},
        {"file_by_filename": "nothing.proto"},
        {"all_extension_numbers_of_type": "xds.debug.v1.Nothing"},
        {"file_containing_extension": reflection_pb2.ExtensionRequest(containing_type="xds.debug.v1.Change", extension_number=1)},
    ],
)
async def test_reflection_does_not_find_what_is_not_there(reflect: Any, what: dict[str, Any]) -> None:
    answer = await reflect(**what)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_reflection_rejects_an_empty_request(reflect: Any) -> None:
    answer = await reflect()
    assert answer.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_descriptors_are_made_once_when_they_are_first_requested() -> None:
    made = []

    def make() -> Any:
        made.append(1)
        raise OSError("nothing can be made")

    async def requests() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(file_by_filename="x")

    found = Reflection((), make)
    for _ in range(2):
        with pytest.raises(OSError, match="nothing"):
            await anext(found.serve(requests(), None))
    assert made == [1]
