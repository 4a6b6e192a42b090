"""grpcurl, as people use it: it knows no .proto file, and lists, describes and calls everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret

from tests.cluster.harness.programs import missing, path
from tests.debug.conftest import Connect, Scripted
from tests.debug.test_service import ALL, BAD, WEB
from tests.server.client import eventually
from xds.debug.descriptors import full_name
from xds.debug.server import ALL_SERVICES, SERVICES, DebugServer
from xds.debug.subject import Effect, Explained
from xds.snapshot import CLUSTER, SECRET, Resource
from xds.wire.encode import encode, pack

pytestmark = pytest.mark.skipif(bool(missing("grpcurl")), reason=missing("grpcurl"))

CALLS: Mapping[str, Any] = {
    "xds.debug.v1.Debug/Fleet": {"nodeId": "envoy-1"},
    "xds.debug.v1.Debug/Problems": {"kind": "Ingress"},
    "xds.debug.v1.Debug/Explain": {"url": "https://shop.example/"},
    "xds.debug.v1.Debug/Programmed": {"namespace": "shop", "name": "web", "wait": True, "timeoutSeconds": 10},
    "xds.debug.v1.Debug/ListProgrammed": {"unfinished": False},
    "xds.debug.v1.Debug/History": {"limit": 5},
    "envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus": {"nodeMatchers": [{"nodeId": {"exact": "envoy-1"}}]},
    "envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus": {},
    "grpc.health.v1.Health/Check": {"service": "xds.debug.v1.Debug"},
    "grpc.channelz.v1.Channelz/GetServers": {},
    "grpc.channelz.v1.Channelz/GetTopChannels": {},
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": {"listServices": ""},
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {"listServices": ""},
}


async def grpcurl(*words: str) -> str:
    running = await asyncio.create_subprocess_exec(
        path("grpcurl"), "-plaintext", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await running.communicate()
    assert running.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture
async def address(subject: Scripted, server: DebugServer, connect: Connect) -> str:
    """Of a server that has something to say to every call."""
    subject.found = [BAD]
    subject.explained = Explained({"answered": True}, "r", "shop.example", "shop/web/80", ALL)
    subject.effects = {WEB: Effect(WEB, "17", ALL)}
    cluster = Cluster(name="web", upstream_config=TypedExtensionConfig(name="any", typed_config=pack(Router(suppress_envoy_headers=True))))
    subject.put(CLUSTER, Resource.of("web", encode(cluster)))
    subject.put(SECRET, Resource.of("tls", encode(Secret(name="tls"))))
    client = connect()
    for type_url, name in ((CLUSTER, "web"), (SECRET, "tls")):
        await client.subscribe(type_url, [name])
        await client.answer(await client.read())
    await eventually(lambda: all(s.settled for e in subject.envoys() for s in e.session.summaries.values()))
    return server.address


async def test_grpcurl_lists_and_describes_every_service_and_every_message_of_ours(address: str) -> None:
    assert (await grpcurl(address, "list")).split() == sorted(ALL_SERVICES)
    for service in ALL_SERVICES:
        assert f"{service} is a service" in await grpcurl(address, "describe", service)
    for methods in SERVICES.values():
        for method in methods.values():
            for cls in (method.request, method.response):
                assert f"message {cls.__name__} {{" in await grpcurl(address, "describe", full_name(cls))


async def test_grpcurl_calls_every_service(address: str) -> None:
    assert {method.partition("/")[0] for method in CALLS} == set(ALL_SERVICES)
    for method, request in CALLS.items():
        assert json.loads(await grpcurl("-d", json.dumps(request), address, method)), method


async def test_grpcurl_watches_changes(subject: Scripted, address: str) -> None:
    words = ("-plaintext", "-max-time", "30", address, "xds.debug.v1.Debug/Watch")
    running = await asyncio.create_subprocess_exec(path("grpcurl"), *words, stdout=asyncio.subprocess.PIPE)
    assert running.stdout is not None
    reading = asyncio.create_task(running.stdout.readuntil(b"\n}\n"))
    n = 0
    while not reading.done():  # what is published before it watches is not for it
        n += 1
        subject.put(CLUSTER, Resource.of("web", encode(Cluster(name="web", alt_stat_name=str(n)))))
        await asyncio.wait([reading], timeout=0.1)
    assert json.loads(await reading)["change"]["resources"] == [{"typeUrl": CLUSTER, "names": ["web"], "total": 1}]
    running.kill()
    await running.wait()
    reading.cancel()


async def test_grpcurl_opens_what_stands_in_an_any(address: str) -> None:
    said = json.loads(await grpcurl(address, "envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"))
    found = {config["name"]: config for config in said["config"][0]["genericXdsConfigs"]}
    assert found["web"]["configStatus"] == "SYNCED"
    assert found["web"]["xdsConfig"]["upstreamConfig"]["typedConfig"]["suppressEnvoyHeaders"] is True


async def test_grpcdebug_finds_exactly_one_client(address: str) -> None:
    """grpcdebug refuses an answer with another number of them, and cannot name one."""
    said = json.loads(await grpcurl(address, "envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus"))
    assert [client["node"]["id"] for client in said["config"]] == ["envoy-1"]
