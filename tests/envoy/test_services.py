"""Services of every kind behind an Ingress: how their endpoints are found, and who stays with which (nginx 4.6)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from examples.apps import Address, HttpApp, UdpApp
from tests import quick_yaml
from tests.envoy.harness import (
    NameServer,
    Site,
    Udp,
    config_map,
    endpoint_slice,
    fetch,
    ingress,
    resolving,
    service,
    wait_until,
)

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

Manifest = dict[str, Any]


def with_ports(name: str, *ports: Manifest, **spec: object) -> Manifest:
    """A Service with these ports and whatever else is in its spec."""
    found: Manifest = service(name)
    found["spec"] = {"ports": list(ports), **spec}
    return found


def legacy_endpoints(name: str, where: Address, port_name: str = "") -> Manifest:
    """core/v1 Endpoints, as they were before there were slices."""
    port = {"port": where[1]} | ({"name": port_name} if port_name else {})
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "namespace": "default"},
        "subsets": [{"addresses": [{"ip": where[0]}], "ports": [port]}],
    }


def every_kind(where: Address) -> Iterator[tuple[str, int | str, list[Manifest]]]:
    """Name of a Service, the port by which an Ingress asks for it, and its objects; one application is behind all of them."""
    number = where[1]
    yield "plain", 80, [service("plain"), endpoint_slice("plain", [where])]
    yield "headless", 80, [service("headless", cluster_ip="None"), endpoint_slice("headless", [where])]
    named = [with_ports("named", {"name": "web", "port": 80, "targetPort": "http-web"}), endpoint_slice("named", [where], port_name="web")]
    yield "named", "web", named
    yield "named", 80, named
    yield "named", "http-web", named
    numeric = [
        with_ports("numeric", {"name": "web", "port": 80, "targetPort": number}),
        endpoint_slice("numeric", [where], port_name="web"),
    ]
    yield "numeric", "web", numeric
    yield "numeric", number, numeric
    second = {"name": "second", "port": 81, "targetPort": "two"}
    many = [with_ports("many", {"name": "first", "port": 80}, second), endpoint_slice("many", [where], port_name="second")]
    yield "many", "second", many
    yield "many", 81, many
    by_hand = [with_ports("by-hand", {"name": "web", "port": 80, "targetPort": number}), endpoint_slice("by-hand", [where], name="mine")]
    yield "by-hand", 80, by_hand
    yield "old", 80, [service("old"), legacy_endpoints("old", where)]
    yield "old-named", "web", [service("old-named", {"web": 80}), legacy_endpoints("old-named", where, "web")]
    both = [service("both"), legacy_endpoints("both", ("127.0.0.1", 1)), endpoint_slice("both", [where])]
    yield "both", 80, both
    not_ready = endpoint_slice("partly", [("127.0.0.1", 1)], ready=False, name="partly-2")
    yield "partly", 80, [service("partly"), endpoint_slice("partly", [where]), not_ready]
    yield "s" * 63, 80, [service("s" * 63), endpoint_slice("s" * 63, [where], name="long-1")]
    yield "outside", number, [service("outside", 0, external_name="localhost")]
    yield "outside-dot", number, [service("outside-dot", 0, external_name="LocalHost.")]
    yield "outside-ip", number, [service("outside-ip", 0, external_name="127.0.0.1")]
    yield "outside-v4", number, [service("outside-v4", 0, external_name="v4.example")]
    target = with_ports("outside-target", {"name": "web", "port": 80, "targetPort": number}, type="ExternalName", externalName="v4.example")
    yield "outside-target", 80, [target]
    yield "outside-target", "web", [target]
    yield "outside-port", "web", [service("outside-port", {"web": number}, external_name="v4.example")]


KINDS = [f"{name[:14]}-{'number' if port == 4711 else port}" for name, port, _ in every_kind(("127.0.0.1", 4711))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def names(shared_site: Site) -> NameServer:
    """Envoy's name server."""
    known = {"v4.example": ["127.0.0.1"], "v6.example": ["::1"], "both.example": ["::1", "127.0.0.1"], "moving.example": ["127.0.0.1"]}
    return NameServer(known, {"silent.example", "silent-too.example"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(shared_site: Site, names: NameServer) -> AsyncIterator[Site]:
    """One Envoy for all; each test that changes something has hosts of its own. One name that it needs is never answered."""
    site = shared_site
    where = await site.run(HttpApp("web"))
    for number, (name, port, objects) in enumerate(every_kind(where)):
        site.folder.write(f"kind-{name}.yaml", *objects)
        site.folder.write(f"ingress-{number}.yaml", ingress(f"i{number}", f"{KINDS[number]}.test", {"/": (name, port)}))
    site.folder.write("silent.yaml", service("silent", 0, external_name="silent.example"))
    site.folder.write("silent-ingress.yaml", ingress("silent", "silent.test", {"/": ("plain", 80), "/silent": ("silent", 80)}))
    streams = {str(site.ports.take()): f"default/outside-target:{port}" for port in (80, "web")}
    site.folder.write("tcp-services.yaml", config_map("tcp-services", streams))
    _, at_udp = await site.run(UdpApp("udp"))
    away = with_ports("away", {"port": 53, "targetPort": at_udp, "protocol": "UDP"}, type="ExternalName", externalName="v4.example")
    site.folder.write("udp-services.yaml", away, config_map("udp-services", {str(site.ports.take()): "default/away:53"}))
    flags = ("--tcp-services-configmap", "default/tcp-services", "--udp-services-configmap", "default/udp-services")
    await site.start_control_plane(*flags)
    bootstrap = quick_yaml.safe_load(await site.control_plane.bootstrap())
    await site.static_envoy(resolving(bootstrap, await site.run(names)))
    yield site


@pytest.mark.parametrize("kind", KINDS)
async def test_the_endpoints_of_a_service_are_found(services: Site, kind: str) -> None:
    answers = [await services.get(f"/{number}", host=f"{kind}.test") for number in range(3)]
    assert [(answer.status, answer.app) for answer in answers] == [(200, "web")] * 3


async def test_tcp_services_lead_to_an_external_name(services: Site) -> None:
    ports = [int(name.removeprefix("tcp/")) for name in await services.envoy.listeners() if name.startswith("tcp/")]
    assert len(ports) == 2
    for port in ports:
        answer = await fetch(("127.0.0.1", port), "/", host="any.test")
        assert (answer.status, answer.app) == (200, "web")


async def test_udp_services_lead_to_an_external_name(services: Site) -> None:
    (port,) = [int(name.removeprefix("udp/")) for name in await services.envoy.listeners() if name.startswith("udp/")]
    async with await Udp.open(("127.0.0.1", port)) as client:
        assert (await client.ask(b"hello")).startswith(b"udp:")


async def test_a_name_that_does_not_exist_fails_for_its_path_only(services: Site) -> None:
    services.folder.write("nowhere.yaml", service("nowhere", 0, external_name="nowhere.example"))
    services.folder.write("nowhere-ingress.yaml", ingress("nowhere", "nowhere.test", {"/": ("plain", 80), "/nowhere": ("nowhere", 80)}))
    await services.until_answered("/", "web", host="nowhere.test")
    assert (await services.get("/nowhere", host="nowhere.test")).status == 503


async def test_a_name_server_that_is_silent_holds_up_nobody(services: Site, names: NameServer) -> None:
    """Envoy was started with such a name; here comes another."""
    assert "silent.example" in names.asked
    assert (await services.get("/", host="silent.test")).app == "web"
    assert (await services.get("/silent", host="silent.test")).status == 503
    services.folder.write("silent-too.yaml", service("silent-too", 0, external_name="silent-too.example"))
    services.folder.write("late.yaml", ingress("late", "late.test", {"/": ("plain", 80), "/silent": ("silent-too", 80)}))
    await services.until_answered("/", "web", host="late.test", deadline=20)  # c-ares by default gives a silent server up later
    assert (await services.get("/silent", host="late.test")).status == 503
    assert "silent-too.example" in names.asked


async def test_a_name_is_followed_where_it_goes(services: Site, names: NameServer) -> None:
    _, port = await services.run(HttpApp("before"), "127.0.0.1")
    await services.run(HttpApp("after"), "127.0.0.7", port)
    services.folder.write("moving.yaml", service("moving", 0, external_name="moving.example"))
    services.folder.write("moving-ingress.yaml", ingress("moving", "moving.test", {"/": ("moving", port)}))
    await services.until_answered("/", "before", host="moving.test")
    names.names["moving.example"] = ["127.0.0.7"]
    await services.until_answered("/", "after", host="moving.test")


async def test_the_host_header_reaches_an_external_name_as_the_client_sent_it(services: Site) -> None:
    answer = await services.get("/", host="outside-v4-number.test")
    assert answer.received("host") == ["outside-v4-number.test"]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_endpoints_and_names_may_be_ipv6(services: Site) -> None:
    with socket.socket(socket.AF_INET) as refusing:  # nobody else may listen there, or "both" would have two that answer
        refusing.bind(("127.0.0.1", 0))
        where = await services.run(HttpApp("six"), "::1", refusing.getsockname()[1])
        services.folder.write("six.yaml", service("six"), endpoint_slice("six", [where]))
        services.folder.write("six-names.yaml", *(service(f"six-{name}", 0, external_name=f"{name}.example") for name in ("v6", "both")))
        paths = {"/": ("six", 80), "/v6": ("six-v6", where[1]), "/both": ("six-both", where[1])}
        services.folder.write("six-ingress.yaml", ingress("six", "six.test", paths))
        for path in paths:
            await services.until_answered(path, "six", host="six.test")
        assert {(await services.get("/both", host="six.test")).app for _ in range(4)} == {"six"}


async def test_a_service_changes_its_kind_while_it_is_used(services: Site) -> None:
    """From endpoints to a name of the DNS and back, under one name of a cluster."""
    first, (_, port) = await services.run(HttpApp("pod")), await services.run(HttpApp("name"))
    services.folder.write("changing-ingress.yaml", ingress("changing", "changing.test", {"/": ("changing", port)}))
    pods = service("changing", port), endpoint_slice("changing", [first])
    for objects, app in ((pods, "pod"), ((service("changing", 0, external_name="v4.example"),), "name"), (pods, "pod")):
        services.folder.write("changing.yaml", *objects)
        await services.until_answered("/", app, host="changing.test")


async def test_endpoints_go_and_come_back(services: Site) -> None:
    where = await services.run(HttpApp("back"))
    services.folder.write("back-ingress.yaml", ingress("back", "back.test", {"/": ("back", 80), "/other": ("plain", 80)}))
    for addresses, status in (([where], 200), ([], 503), ([where], 200)):
        services.folder.write("back.yaml", service("back"), endpoint_slice("back", addresses))
        await services.until_status("/", status, host="back.test")
        assert (await services.get("/other", host="back.test")).app == "web"

    async def said() -> bool:
        return any("Service default/back has no ready endpoint" in line for line in services.control_plane.process.stderr)

    await wait_until(said, "the Problem")
