"""No limit of Envoy's own: 5,000 at the same time to one Service (decision 9). Its defaults would end at 1,024."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.apps import HttpApp, TcpApp, UdpApp
from tests.envoy.harness import (
    Gate,
    Http1,
    Site,
    Tcp,
    Udp,
    WebSocket,
    backend,
    config_map,
    disturbances,
    endpoint_slice,
    ingress,
    load,
    service,
)
from tests.envoy.harness.process import raise_file_limit

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
]

MANY = 5000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate() -> Gate:
    """It answers nobody before all are there. Its test ends it, so that what Envoy keeps open to it does not use up the files of others."""
    return Gate(MANY)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def udp() -> UdpApp:
    return UdpApp("udp")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ports(shared_site: Site) -> dict[str, int]:
    return {"tcp": shared_site.ports.take(), "udp": shared_site.ports.take()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(shared_site: Site, gate: Gate, udp: UdpApp, ports: dict[str, int]) -> Site:
    allowed = raise_file_limit()
    assert allowed > 2 * MANY + 500, f"{MANY} clients and as many backends need more open files than the {allowed} that are allowed here"
    for name, app in (("gate", gate), ("websocket", HttpApp("websocket"))):
        shared_site.folder.write(
            f"{name}.yaml", ingress(name, f"{name}.test", {"/": (name, 80)}), *backend(name, await shared_site.run(app))
        )
    shared_site.folder.write("tcp.yaml", service("tcp", 7), endpoint_slice("tcp", [await shared_site.run(TcpApp("tcp"))]))
    slices = endpoint_slice("udp", [await shared_site.run(udp)], protocol="UDP")
    shared_site.folder.write("udp.yaml", service("udp", 53, protocol="UDP"), slices)
    shared_site.folder.write("tcp-services.yaml", config_map("tcp-services", {str(ports["tcp"]): "default/tcp:7"}))
    shared_site.folder.write("udp-services.yaml", config_map("udp-services", {str(ports["udp"]): "default/udp:53"}))
    await shared_site.start("--tcp-services-configmap=default/tcp-services", "--udp-services-configmap=default/udp-services")
    return shared_site


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def steady(site: Site) -> AsyncIterator[None]:
    """Nothing is drained or rejected; what Envoy calls unfinished is how a UDP proxy names its cluster since the old way is deprecated."""
    yield
    assert await disturbances(site.envoy) == {"server.wip_protos": 1}


async def test_five_thousand_requests_are_under_way_at_the_same_time(site: Site, gate: Gate) -> None:
    async def ask(connection: Http1, number: int) -> int:
        return (await connection.request(target=f"/{number}", host="gate.test")).status

    assert set(await load(MANY, lambda: Http1.open(site.http), ask)) == {200}
    assert gate.most == MANY
    await gate.stop()


async def test_five_thousand_websockets_are_open_at_the_same_time(site: Site) -> None:
    async def ask(websocket: WebSocket, number: int) -> bool:
        return await websocket.ask(b"%d" % number) == b"%d" % number

    assert set(await load(MANY, lambda: WebSocket.open(site.http, host="websocket.test"), ask)) == {True}


async def test_five_thousand_tcp_connections_are_open_at_the_same_time(site: Site, ports: dict[str, int]) -> None:
    async def ask(connection: Tcp, number: int) -> bool:
        return await connection.ask(str(number)) == f"tcp: {number}"

    assert set(await load(MANY, lambda: Tcp.open(("127.0.0.1", ports["tcp"])), ask)) == {True}


async def test_five_thousand_udp_sessions_are_alive_at_the_same_time(site: Site, udp: UdpApp, ports: dict[str, int]) -> None:
    """Each has a source address of its own towards the backend, which is what a session is."""

    async def ask(session: Udp, number: int) -> bool:
        return await session.ask(b"%d" % number, timeout=5) == b"udp: %d" % number

    assert set(await load(MANY, lambda: Udp.open(("127.0.0.1", ports["udp"])), ask)) == {True}
    assert len(udp.peers) == MANY
