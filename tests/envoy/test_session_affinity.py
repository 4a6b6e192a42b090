"""`sessionAffinity: ClientIP` of a Service: not read by default, as in ingress-nginx; with a key of the ConfigMap a hash of the address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp, TcpApp, UdpApp
from tests.envoy.harness import Http1, Site, Tcp, config_map, endpoint_slices, ingress, service

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

SOURCES = [f"127.0.1.{number}" for number in range(1, 31)]
KEY = "service-session-affinity"


async def write_services(site: Site) -> None:
    """Services of three endpoints each that ask for affinity, over HTTP, TCP and UDP, and one that does not."""
    for kind, app, protocol in (("http", HttpApp, "TCP"), ("tcp", TcpApp, "TCP"), ("udp", UdpApp, "UDP")):
        name = f"sticky-{kind}"
        sticky = service(name, protocol=protocol)
        sticky["spec"]["sessionAffinity"] = "ClientIP"
        where = [await site.run(app(f"{kind}-{number}")) for number in range(3)]
        site.folder.write(f"{name}.yaml", sticky, *endpoint_slices(name, where, protocol=protocol))
        if kind == "http":
            site.folder.write("loose.yaml", service("loose"), *endpoint_slices("loose", where))
        else:
            site.folder.write(f"{kind}-services.yaml", config_map(f"{kind}-services", {str(site.ports.take()): f"default/{name}:80"}))
    site.folder.write("sticky.yaml", ingress("sticky", "sticky.test", {"/": ("sticky-http", 80), "/loose": ("loose", 80)}))


async def started(site: Site, keys: dict[str, str]) -> Site:
    await write_services(site)
    site.folder.write("keys.yaml", config_map("keys", keys))
    maps = ("--tcp-services-configmap", "default/tcp-services", "--udp-services-configmap", "default/udp-services")
    await site.start("--configmap", "default/keys", *maps)
    return site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sticky(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """With the key."""
    async with Site(tmp_path_factory.mktemp("sticky")) as site:
        yield await started(site, {KEY: "true"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def usual(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Without it."""
    async with Site(tmp_path_factory.mktemp("usual")) as site:
        yield await started(site, {})


async def over_http(site: Site, source: str, path: str = "/") -> str:
    reader, writer = await asyncio.open_connection(*site.http, local_addr=(source, 0))
    async with Http1(reader, writer) as connection:
        return (await connection.request(target=path, host="sticky.test")).app


async def stream_port(site: Site, kind: str) -> Address:
    """Where the one entry of a ConfigMap listens."""
    (port,) = (int(name.partition("/")[2]) for name in await site.envoy.listeners() if name.startswith(f"{kind}/"))
    return "127.0.0.1", port


async def over_tcp(site: Site, source: str) -> str:
    async with Tcp(*await asyncio.open_connection(*await stream_port(site, "tcp"), local_addr=(source, 0))) as client:
        return (await client.ask("hello")).partition(":")[0]


async def over_udp(site: Site, source: str) -> str:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)  # noqa: FBT003
        client.bind((source, 0))
        client.connect(await stream_port(site, "udp"))
        await loop.sock_sendall(client, b"hello")
        async with asyncio.timeout(120):
            return (await loop.sock_recv(client, 1000)).partition(b":")[0].decode()


ASK = pytest.mark.parametrize(("kind", "ask"), [("http", over_http), ("tcp", over_tcp), ("udp", over_udp)], ids=["http", "tcp", "udp"])
Ask = Callable[[Site, str], Awaitable[str]]


@ASK
async def test_with_the_key_one_client_stays_with_one_endpoint_and_clients_are_spread(sticky: Site, kind: str, ask: Ask) -> None:
    by_client = {source: {await ask(sticky, source) for _ in range(4)} for source in SOURCES}
    assert {len(names) for names in by_client.values()} == {1}
    assert set.union(*by_client.values()) == {f"{kind}-{number}" for number in range(3)}


@ASK
async def test_without_the_key_one_client_reaches_every_endpoint(usual: Site, kind: str, ask: Ask) -> None:
    assert {await ask(usual, SOURCES[0]) for _ in range(6)} == {f"{kind}-{number}" for number in range(3)}


async def test_with_the_key_a_service_that_does_not_ask_takes_turns(sticky: Site) -> None:
    assert {await over_http(sticky, SOURCES[0], "/loose") for _ in range(6)} == {"http-0", "http-1", "http-2"}
